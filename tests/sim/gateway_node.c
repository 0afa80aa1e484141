#include "gateway_node.h"

#include <assert.h>

enum { PORT = 5351, UNSUPP_VERSION = 1 };

static void reply(struct gateway_node *n, const struct tw_datagram *d, struct tw_wr *w)
{
    struct tw_bytes b = tw_bytes(w->p, w->n);
    struct tw_datagram out = { .sock = d->sock, .src = d->dst, .dst = d->src, .iov = &b, .iov_n = 1 };
    assert(!w->error);
    sim_send(n->host, &out);
}

static uint32_t epoch(const struct gateway_node *n, tw_time now)
{
    return (uint32_t)((now - n->booted) / TW_SEC);
}

/* The outside port, 0: none. Lifetime 0 ends it. */
static uint16_t forward(struct gateway_node *n, tw_time now, const struct tw_addr *client, bool tcp,
                        uint16_t port, uint16_t suggested, uint32_t *lifetime)
{
    struct tw_addr inside = *client;
    inside.port = port;
    n->asked++;
    if (*lifetime > n->lifetime)
        *lifetime = n->lifetime;
    if (n->refuse)
        return 0;
    uint16_t got = sim_nat_forward(n->nat, tcp, &inside, suggested,
                                   now + (tw_time)*lifetime * TW_SEC);
    n->mapped += got && *lifetime;
    n->removed += *lifetime == 0;
    return got;
}

static void on_natpmp(struct gateway_node *n, tw_time now, const struct tw_datagram *d)
{
    uint8_t buf[16];
    struct tw_wr w = tw_wr(buf, sizeof(buf));
    struct tw_rd r = tw_rd(d->iov[0]);
    tw_rd_u8(&r);
    uint8_t op = tw_rd_u8(&r);
    tw_rd_u16(&r);
    uint16_t port = tw_rd_u16(&r), suggested = tw_rd_u16(&r);
    uint32_t lifetime = tw_rd_u32(&r);
    if (n->speech != GATEWAY_NATPMP && n->speech != GATEWAY_NATPMP_SHY)
        return;
    tw_wr_u8(&w, 0);
    tw_wr_u8(&w, op | 0x80);
    tw_wr_u16(&w, (uint16_t)n->refuse);
    tw_wr_u32(&w, epoch(n, now));
    if (op == 0) {
        tw_wr_bytes(&w, tw_bytes(n->outside.ip, 4));
    } else if (r.error) {
        return;
    } else {
        uint16_t outside = forward(n, now, &d->src, op == 2, port, suggested, &lifetime);
        tw_wr_u16(&w, port);
        tw_wr_u16(&w, lifetime ? outside : 0);
        tw_wr_u32(&w, lifetime);
    }
    reply(n, d, &w);
}

static void on_pcp(struct gateway_node *n, tw_time now, const struct tw_datagram *d)
{
    enum { HEADER = 24, SIZE = 60, TCP = 6 };
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    uint8_t buf[SIZE];
    struct tw_wr w = tw_wr(buf, sizeof(buf));
    const uint8_t *q = d->iov[0].p;
    if (n->speech == GATEWAY_NATPMP) { /* RFC 6886 §3.5 */
        tw_wr_u8(&w, 0);
        tw_wr_u8(&w, 0x80);
        tw_wr_u16(&w, UNSUPP_VERSION);
        tw_wr_u32(&w, epoch(n, now));
        reply(n, d, &w);
    }
    if (n->speech != GATEWAY_PCP || d->iov[0].n != SIZE)
        return;
    uint32_t lifetime = tw_get_u32(q + 4);
    uint16_t outside = forward(n, now, &d->src, q[HEADER + 12] == TCP, tw_get_u16(q + HEADER + 16),
                               tw_get_u16(q + HEADER + 18), &lifetime);
    tw_wr_u8(&w, 2);
    tw_wr_u8(&w, 0x81);
    tw_wr_u8(&w, 0);
    tw_wr_u8(&w, (uint8_t)n->refuse);
    tw_wr_u32(&w, lifetime);
    tw_wr_u32(&w, epoch(n, now));
    tw_wr_zero(&w, 12);
    tw_wr_bytes(&w, tw_bytes(q + HEADER, 18));
    tw_wr_u16(&w, outside);
    tw_wr_bytes(&w, tw_bytes(mapped, 12));
    tw_wr_bytes(&w, tw_bytes(n->outside.ip, 4));
    buf[HEADER] ^= n->lie;
    reply(n, d, &w);
}

static void on_receive(void *ctx, tw_time now, const struct tw_datagram *d)
{
    struct gateway_node *n = ctx;
    if (d->iov[0].n >= 2 && d->iov[0].p[0] == 0)
        on_natpmp(n, now, d);
    else if (d->iov[0].n >= 2)
        on_pcp(n, now, d);
}

void gateway_node_init(struct gateway_node *n, struct sim *s, struct sim_nat *nat, struct tw_addr ip,
                       struct tw_addr outside, enum gateway_speech speech)
{
    *n = (struct gateway_node){ .sim = s, .nat = nat, .outside = outside, .speech = speech,
                                .lifetime = 7200, .booted = sim_now(s) };
    n->host = sim_host(s, ip, nat, (struct sim_link){ .delay = TW_MSEC / 2 });
    sim_host_attach(n->host, n, on_receive, NULL, NULL);
    ip.port = PORT;
    bool ok = sim_open(n->host, 0, ip, NULL);
    assert(ok);
    (void)ok;
}

void gateway_node_reboot(struct gateway_node *n)
{
    sim_nat_reboot(n->nat);
    n->booted = sim_now(n->sim);
}
