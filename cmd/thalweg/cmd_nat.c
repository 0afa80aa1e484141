/* thalweg nat URI: what the NATs between here and a STUN server do (RFC 5780). */
#include "nat.h"

#include <errno.h>
#include <string.h>

#include "rt/os.h"
#include "rt/resolve.h"

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

static struct nat q;

static void on_done(struct nat *n)
{
    uv_stop(n->agent.timer.loop);
}

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
                   r->port_preserved ? "true" : "false", nat_name(r->mapping), nat_name(r->filtering),
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
        printf("mapping    %s\nfiltering  %s\n", nat_mapping_text(r->mapping),
               nat_filtering_text(r->filtering));
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
    uv_loop_t *loop = cmd_loop();
    if (nat_start(&q, loop, &addrs[0], opt.timeout_ms, on_done, NULL)) {
        fprintf(stderr, "thalweg: no UDP socket: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    uv_run(loop, UV_RUN_DEFAULT);
    tw_rt_agent_fini(&q.agent);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    show(&addrs[0], &q.local);
    return q.result.answered && q.result.can ? EXIT_OK : EXIT_FAILED;
}
