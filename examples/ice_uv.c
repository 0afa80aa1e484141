/* The same two ICE agents on libuv, with its own UDP handles. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uv.h>

#include <thalweg/ice.h>

struct peer {
    struct tw_ice *ice;
    struct peer *other;
    uv_udp_t udp;
    uv_timer_t timer;
    uint32_t id;
    struct tw_addr at;
    bool ready, greeted;
};

static tw_time now(void)
{
    return (tw_time)uv_hrtime();
}

static void randomness(void *ctx, void *out, size_t n)
{
    (void)ctx;
    if (getrandom(out, n, 0) != (ssize_t)n)
        abort();
}

static struct tw_addr from_kernel(const struct sockaddr_in *sin)
{
    const uint8_t *ip = (const uint8_t *)&sin->sin_addr;
    return tw_addr_v4(ip[0], ip[1], ip[2], ip[3], ntohs(sin->sin_port));
}

static struct sockaddr_in to_kernel(const struct tw_addr *a)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(a->port) };
    memcpy(&sin.sin_addr, a->ip, 4);
    return sin;
}

static void pump(struct peer *p);

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *buf)
{
    static char memory[65536];
    (void)h, (void)want;
    *buf = uv_buf_init(memory, sizeof(memory));
}

static void on_datagram(uv_udp_t *u, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
                        unsigned flags)
{
    struct peer *p = u->data;
    (void)flags;
    if (n < 0 || !from)
        return;
    struct tw_bytes b = tw_bytes(buf->base, (size_t)n);
    struct tw_datagram d = { .sock = p->id, .src = from_kernel((const struct sockaddr_in *)from),
                             .dst = p->at, .iov = &b, .iov_n = 1 };
    (void)!tw_ice_recv(p->ice, now(), &d);
    pump(p);
}

/* One socket is all that this agent gets: a second OPEN is refused. */
static void open_socket(struct peer *p, const struct tw_ice_event *ev)
{
    struct sockaddr_in sin = to_kernel(&ev->local);
    int len = sizeof(sin);
    if (p->id || uv_udp_bind(&p->udp, (struct sockaddr *)&sin, 0) ||
        uv_udp_getsockname(&p->udp, (struct sockaddr *)&sin, &len)) {
        tw_ice_opened(p->ice, now(), ev->sock, TW_ESYS, NULL);
        return;
    }
    p->id = ev->sock;
    p->at = from_kernel(&sin);
    uv_udp_recv_start(&p->udp, on_alloc, on_datagram);
    tw_ice_opened(p->ice, now(), ev->sock, 0, &p->at);
}

static void send_all(struct peer *p)
{
    struct tw_datagram d;
    while (tw_ice_poll_tx(p->ice, &d)) {
        struct sockaddr_in to = to_kernel(&d.dst);
        uv_buf_t buf[8];
        for (size_t i = 0; i < d.iov_n; i++)
            buf[i] = uv_buf_init((char *)(uintptr_t)d.iov[i].p, (unsigned)d.iov[i].n);
        uv_udp_try_send(&p->udp, buf, (unsigned)d.iov_n, (struct sockaddr *)&to);
    }
}

/* Both have gathered: in real life this goes over some signalling. */
static void tell(struct peer *from, struct peer *to)
{
    char sdp[8192];
    size_t n;
    if (tw_ice_write_sdp(from->ice, 0, sdp, sizeof(sdp), &n) || tw_ice_read_sdp(to->ice, now(), sdp, NULL))
        abort();
    pump(to);
}

static void on_event(struct peer *p, const struct tw_ice_event *ev)
{
    switch (ev->type) {
    case TW_ICE_OPEN:
        open_socket(p, ev);
        break;
    case TW_ICE_GATHERED:
        p->ready = true;
        if (p->other->ready) {
            tell(p, p->other);
            tell(p->other, p);
        }
        break;
    case TW_ICE_CONNECTED:
        (void)!tw_ice_send(p->ice, now(), 0, 1, tw_bytes_str("hello"), 0);
        break;
    case TW_ICE_DATA:
        printf("got \"%.*s\"\n", (int)ev->data.n, (const char *)ev->data.p);
        p->greeted = true;
        if (p->other->greeted)
            uv_stop(p->timer.loop);
        break;
    default:
        break;
    }
}

static void on_timer(uv_timer_t *t)
{
    struct peer *p = t->data;
    tw_ice_tick(p->ice, now());
    pump(p);
}

static void pump(struct peer *p)
{
    struct tw_ice_event ev;
    send_all(p);
    while (tw_ice_poll_event(p->ice, &ev)) {
        on_event(p, &ev);
        send_all(p);
    }
    tw_time at = tw_ice_deadline(p->ice), left = at - now();
    if (at == TW_NEVER)
        uv_timer_stop(&p->timer);
    else
        uv_timer_start(&p->timer, on_timer, left > 0 ? (uint64_t)(left / TW_MSEC) + 1 : 0, 0);
}

static void on_late(uv_timer_t *t)
{
    uv_stop(t->loop);
}

int main(void)
{
    static struct peer p[2];
    uv_timer_t late;
    uv_loop_t *loop = uv_default_loop();
    struct tw_env env = { .rng = { randomness, NULL } };
    struct tw_ice_interface lo = { .name = "lo", .ip = tw_addr_v4(127, 0, 0, 1, 0) };
    uv_timer_init(loop, &late);
    uv_timer_start(&late, on_late, 10000, 0);
    for (int i = 0; i < 2; i++) {
        struct tw_ice_config cfg = { .controlling = i == 0 };
        p[i].other = &p[!i];
        uv_udp_init(loop, &p[i].udp);
        uv_timer_init(loop, &p[i].timer);
        p[i].udp.data = p[i].timer.data = &p[i];
        if (tw_ice_new(&cfg, &env, &p[i].ice))
            return 1;
    }
    for (int i = 0; i < 2; i++) {
        if (tw_ice_interfaces(p[i].ice, now(), &lo, 1))
            return 1;
        pump(&p[i]);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&p[i].udp, NULL);
        uv_close((uv_handle_t *)&p[i].timer, NULL);
        tw_ice_free(p[i].ice);
    }
    uv_close((uv_handle_t *)&late, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    return p[0].greeted && p[1].greeted ? 0 : 1;
}
