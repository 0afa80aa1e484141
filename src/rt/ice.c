#include "rt/ice.h"

#include "rt/os.h"

static void recv_one(void *machine, tw_time now, const struct tw_datagram *in)
{
    (void)!tw_ice_recv(machine, now, in);
}

static void opened(void *machine, tw_time now, uint32_t sock, int err, const struct tw_addr *local)
{
    tw_ice_opened(machine, now, sock, err, local);
}

static void accepted(void *machine, tw_time now, uint32_t listener, const struct tw_addr *remote,
                     enum tw_ice_via via, uint32_t *ret_sock)
{
    tw_ice_accepted(machine, now, listener, remote, via, ret_sock);
}

static void disconnected(void *machine, tw_time now, uint32_t sock)
{
    tw_ice_disconnected(machine, now, sock);
}

static void waits(void *machine, tw_time now, uint32_t sock, tw_time wait)
{
    tw_ice_waits(machine, now, sock, wait);
}

static void mapped(void *machine, tw_time now, uint32_t sock, const struct tw_addr *outside)
{
    tw_ice_mapped(machine, now, sock, outside);
}

static int interfaces(struct tw_rt_sockets *s, tw_time now, const struct tw_ice_interface *list, size_t n)
{
    return tw_ice_interfaces(s->machine, now, list, n);
}

static void nat64(void *machine, tw_time now, const struct tw_range *prefix)
{
    tw_ice_nat64(machine, now, prefix);
}

static void tick(void *machine, tw_time now)
{
    tw_ice_tick(machine, now);
}

static bool poll_tx(void *machine, struct tw_datagram *ret_out)
{
    return tw_ice_poll_tx(machine, ret_out);
}

static tw_time deadline(const void *machine)
{
    return tw_ice_deadline(machine);
}

static bool next_event(struct tw_rt_sockets *s)
{
    struct tw_rt_ice *r = s->user;
    struct tw_ice_event ev;
    if (!tw_ice_poll_event(r->ice, &ev))
        return false;
    if (!tw_rt_sockets_event(s, &ev))
        r->cfg.on_event(r, &ev);
    return true;
}

static void turn(struct tw_rt_sockets *s, const struct tw_ice_event *ev, struct tw_rt_link_config *how)
{
    struct tw_rt_ice *r = s->user;
    if (r->cfg.on_turn) {
        r->cfg.on_turn(r, ev->server, how);
        return;
    }
    how->transport = r->cfg.ice.servers[ev->server].transport;
    how->tls = r->cfg.tls[ev->server];
    how->host = r->cfg.host[ev->server];
}

static const struct tw_rt_sockets_ops ops = {
    .recv = recv_one, .opened = opened, .accepted = accepted, .disconnected = disconnected, .waits = waits,
    .mapped = mapped, .interfaces = interfaces, .nat64 = nat64, .tick = tick, .poll_tx = poll_tx,
    .deadline = deadline, .next_event = next_event, .turn = turn,
};

int tw_rt_ice_init(struct tw_rt_ice *r, uv_loop_t *loop, const struct tw_rt_ice_config *cfg)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    r->cfg = *cfg;
    int err = tw_ice_new(&cfg->ice, &env, &r->ice);
    if (err)
        return err;
    err = tw_rt_sockets_init(&r->sockets, loop, &ops, r->ice, r);
    if (err)
        tw_ice_free(r->ice);
    return err;
}

void tw_rt_ice_start(struct tw_rt_ice *r)
{
    tw_rt_sockets_start(&r->sockets);
}

void tw_rt_ice_pump(struct tw_rt_ice *r)
{
    tw_rt_sockets_pump(&r->sockets);
}

void tw_rt_ice_fini(struct tw_rt_ice *r)
{
    tw_rt_sockets_fini(&r->sockets);
    tw_ice_free(r->ice);
    r->ice = NULL;
}
