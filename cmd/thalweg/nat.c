#include "nat.h"

#include <sys/socket.h>
#include <unistd.h>

#include "rt/os.h"
#include "rt/sockaddr.h"

static void on_events(struct tw_rt_agent *a, tw_time now)
{
    struct nat *n = a->user;
    (void)now;
    if (tw_behaviour_poll_event(&n->machine, &n->result))
        n->on_done(n);
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

int nat_start(struct nat *n, uv_loop_t *loop, const struct tw_addr *server, unsigned timeout_ms,
              void (*on_done)(struct nat *n), void *user)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    *n = (struct nat){ .timing = { .rc = 3, .rm = 2 }, .on_done = on_done, .user = user };
    n->timing.rto = timeout_ms * TW_MSEC / 5; /* 1 + 2 between the three, then 2 x */
    n->local = local_towards(server);
    int err = tw_rt_agent_init(&n->agent, loop, &n->local, &tw_rt_behaviour, &n->machine, on_events);
    if (err)
        return err;
    n->agent.user = n;
    n->local.port = n->agent.udp.local.port;
    struct tw_behaviour_config cfg = { .server = *server, .local = n->local, .timing = &n->timing };
    tw_behaviour_init(&n->machine, &cfg, &env, tw_rt_now());
    tw_rt_agent_pump(&n->agent);
    return 0;
}

const char *nat_mapping_text(enum tw_nat_dependence d)
{
    static const char *texts[] = {
        "not known", "there is no NAT",
        "endpoint-independent: one mapping for all destinations",
        "address-dependent: another mapping for each destination address",
        "address- and port-dependent: another mapping for each destination" };
    return texts[d];
}

const char *nat_filtering_text(enum tw_nat_dependence d)
{
    static const char *texts[] = {
        "not known", "nothing is filtered",
        "endpoint-independent: once open, anybody can send in",
        "address-dependent: only addresses that were sent to can send in",
        "address- and port-dependent: only who was sent to can send in" };
    return texts[d];
}

const char *nat_name(enum tw_nat_dependence d)
{
    static const char *const names[] = { "unknown", "none", "independent", "address", "address-and-port" };
    return names[d];
}
