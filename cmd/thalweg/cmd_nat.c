/* thalweg nat URI: what the NATs between here and a STUN server do (RFC 5780). */
#include "cmd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thalweg/behaviour.h>

#include "rt/os.h"
#include "rt/resolve.h"
#include "rt/sockaddr.h"

static const char usage[] =
    "usage: thalweg nat [options] URI\n\n"
    "Finds out how the NATs on the way map and filter, with a STUN server that has two addresses\n"
    "(RFC 5780). URI is stun:HOST[:PORT], or just the host. Exits with 0 when it is known, 1 when the\n"
    "server does not answer or has one address only, 2 on wrong usage.\n\n"
    "Options:\n";

static struct {
    bool json;
    const char *family;
    unsigned timeout_ms;
} opt = { .timeout_ms = 1500 };

static struct tw_stun_timing timing = { .rc = 3, .rm = 2 };

static struct {
    struct tw_behaviour machine;
    struct tw_rt_agent agent;
    struct tw_behaviour_event result;
} q;

static void on_events(struct tw_rt_agent *a, tw_time now)
{
    (void)now;
    if (tw_behaviour_poll_event(&q.machine, &q.result))
        uv_stop(a->timer.loop);
}

/* The address that packets to the server leave from. */
static struct tw_addr local_towards(const struct tw_addr *server)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof(ss);
    struct tw_addr local = { .family = server->family };
    int fd = socket(server->family == TW_FAMILY_V4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC,
                    0);
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&ss, tw_rt_sockaddr(server, &ss)) &&
        !getsockname(fd, (struct sockaddr *)&ss, &n)) {
        local = tw_rt_addr(&ss);
        local.port = 0;
    }
    if (fd >= 0)
        close(fd);
    return local;
}

static const char *mapping_text(enum tw_nat_dependence d)
{
    static const char *texts[] = {
        "not known", "there is no NAT",
        "endpoint-independent: one mapping for all destinations",
        "address-dependent: another mapping for each destination address",
        "address- and port-dependent: another mapping for each destination" };
    return texts[d];
}

static const char *filtering_text(enum tw_nat_dependence d)
{
    static const char *texts[] = {
        "not known", "nothing is filtered",
        "endpoint-independent: once open, anybody can send in",
        "address-dependent: only addresses that were sent to can send in",
        "address- and port-dependent: only who was sent to can send in" };
    return texts[d];
}

static const char *const names[] = { "unknown", "none", "independent", "address",
                                     "address-and-port" };

static void show(const struct tw_addr *server, const struct tw_addr *local)
{
    char s[TW_ADDR_STRLEN], l[TW_ADDR_STRLEN], m[TW_ADDR_STRLEN];
    const struct tw_behaviour_event *r = &q.result;
    tw_addr_format(server, s);
    tw_addr_format(local, l);
    tw_addr_format(&r->mapped, m);
    if (opt.json) {
        printf("{\"event\":\"nat\",\"server\":\"%s\",\"answered\":%s,\"can\":%s", s,
               r->answered ? "true" : "false", r->can ? "true" : "false");
        if (r->answered)
            printf(",\"local\":\"%s\",\"mapped\":\"%s\",\"port_preserved\":%s,\"mapping\":\"%s\","
                   "\"filtering\":\"%s\",\"hairpin\":%s", l, m,
                   r->port_preserved ? "true" : "false", names[r->mapping], names[r->filtering],
                   r->hairpin ? "true" : "false");
        printf("}\n");
        return;
    }
    if (!r->answered) {
        fprintf(stderr, "thalweg: %s does not answer; is UDP blocked on the way, or the address "
                        "wrong?\n", s);
        return;
    }
    printf("local      %s\nmapped     %s%s\n", l, m,
           r->port_preserved ? " (the port is kept)" : "");
    if (r->can)
        printf("mapping    %s\nfiltering  %s\n", mapping_text(r->mapping),
               filtering_text(r->filtering));
    printf("hairpin    %s\n", r->hairpin ? "yes: what is sent to the mapped address comes back"
                                         : "no");
    if (!r->can)
        fprintf(stderr, "thalweg: %s has one address only, so mapping and filtering cannot be told; "
                        "try another server\n", s);
}

int cmd_nat(int argc, char **argv)
{
    const struct cmd_option options[] = {
        { "--json", NULL, &opt.json, 0, 0, "print one line of JSON" },
        { "--family", "4|6", &opt.family, 0, 0, "use only IPv4 or only IPv6" },
        { "--timeout", "MS", &opt.timeout_ms, 100, 60000, "wait so long for each answer (default "
          "1500)" },
        { 0 },
    };
    const char *text;
    struct tw_uri uri;
    struct tw_addr addrs[TW_RT_RESOLVED_MAX];
    unsigned n;
    bool done;
    int status = cmd_read(argc, argv, usage, options, &text, &done);
    if (status || done)
        return status;
    status = cmd_find_server(text, false, opt.family, &uri, addrs, &n);
    if (status)
        return status;
    if (uri.transport != TW_TRANSPORT_UDP) {
        fprintf(stderr, "thalweg: NATs are looked at over UDP: use a stun: URI\n");
        return EXIT_USAGE;
    }
    timing.rto = opt.timeout_ms * TW_MSEC / 5; /* 1 + 2 between the three, then 2 x */
    struct tw_env env = { .rng = tw_rt_rng() };
    struct tw_addr local = local_towards(&addrs[0]);
    uv_loop_t *loop = uv_default_loop();
    if (tw_rt_agent_init(&q.agent, loop, &local, &tw_rt_behaviour, &q.machine, on_events)) {
        fprintf(stderr, "thalweg: no UDP socket: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    local.port = q.agent.udp.local.port;
    struct tw_behaviour_config cfg = { .server = addrs[0], .local = local, .timing = &timing };
    tw_behaviour_init(&q.machine, &cfg, &env, tw_rt_now());
    tw_rt_agent_pump(&q.agent);
    uv_run(loop, UV_RUN_DEFAULT);
    tw_rt_agent_fini(&q.agent);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    show(&addrs[0], &local);
    return q.result.answered && q.result.can ? EXIT_OK : EXIT_FAILED;
}
