/* Many at once, in one process, for bench/scale.sh: each is an endpoint with a key of its own. What it prints, a line a second, is counted
 * from the machine's monotonic clock.
 *
 *   crowd mailboxes SERVER N          endpoints that can be dialled at the server and do nothing else: no sockets of peers
 *   crowd dial SERVER ADDRESS N EACH A_SECOND
 *                                     endpoints of which each dials the address so many times; who is closed dials again
 *
 * A line: seconds, online, connected, how often one went offline, was closed (lost: after it had been
 * connected), and why the last one did. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/endpoint.h"
#include "rt/os.h"

enum { IDS = 1 << 10 };

struct one {
    struct tw_rt_endpoint rt;
    bool online;
    unsigned to_dial;
    bool was[IDS];     /* connected, by its number */
};

static struct crowd {
    struct one *all;
    unsigned n, begun, each, a_second, at;
    unsigned online, connected, offlines, closed, lost;
    char why[100];
    bool dials;
    struct tw_address peer;
    struct tw_rt_endpoint_config cfg;
    uv_loop_t *loop;
    uv_timer_t second, next;
    tw_time start;
} c;

static void on_event(struct tw_rt_endpoint *r, const struct tw_endpoint_event *ev)
{
    struct one *o = (struct one *)r->cfg.user;
    switch (ev->type) {
    case TW_EP_ONLINE:
        c.online += !o->online;
        o->online = true;
        break;
    case TW_EP_OFFLINE:
        c.online -= o->online;
        c.offlines += o->online;
        o->online = false;
        snprintf(c.why, sizeof(c.why), "%s", ev->why);
        break;
    case TW_EP_CONNECTED:
        c.connected++;
        o->was[ev->conn % IDS] = true;
        break;
    case TW_EP_CLOSED:
        c.closed++;
        c.connected -= o->was[ev->conn % IDS];
        c.lost += o->was[ev->conn % IDS];
        o->was[ev->conn % IDS] = false;
        o->to_dial++;
        snprintf(c.why, sizeof(c.why), "%s", ev->why ? ev->why : "");
        break;
    default:
        break;
    }
}

static void begin(struct one *o)
{
    uint8_t seed[TW_SEED_SIZE];
    randombytes_buf(seed, sizeof(seed));
    struct tw_rt_endpoint_config cfg = c.cfg;
    cfg.endpoint.seed = seed;
    cfg.user = o;
    if (tw_rt_endpoint_init(&o->rt, c.loop, &cfg)) {
        fprintf(stderr, "crowd: endpoint %u: out of something\n", c.begun);
        exit(1);
    }
    o->to_dial = c.each;
    if (c.dials) {
        tw_rt_endpoint_start(&o->rt);
        return;
    }
    const struct tw_ice_interface one = { .name = "one", .ip = tw_addr_v4(192, 0, 2, 1, 0) }; /* without looking for them */
    tw_time now = tw_rt_now();
    tw_endpoint_clock(o->rt.endpoint, now, (uint64_t)((now + tw_rt_unix_offset()) / TW_MSEC));
    if (tw_endpoint_interfaces(o->rt.endpoint, now, &one, 1))
        exit(1);
    tw_rt_endpoint_pump(&o->rt);
}

/* Some more of those who are not there yet, or of the calls. */
static void on_next(uv_timer_t *t)
{
    (void)t;
    for (unsigned i = 0; i < 1 + c.a_second / 50 && c.begun < c.n; i++)
        begin(&c.all[c.begun++]);
    for (unsigned i = 0, tried = 0; c.dials && c.begun && i < c.a_second / 50 && tried < c.begun; tried++) {
        struct one *o = &c.all[c.at++ % c.begun];
        uint32_t conn;
        if (o->to_dial == 0 || tw_endpoint_dial(o->rt.endpoint, tw_rt_now(), &c.peer, tw_bytes(NULL, 0), &conn))
            continue;
        o->to_dial--;
        i++;
        tw_rt_endpoint_pump(&o->rt);
    }
}

static void on_second(uv_timer_t *t)
{
    (void)t;
    printf("%.1f online %u connected %u offline %u closed %u lost %u %s\n", (double)(tw_rt_now() - c.start) / 1e9, c.online, c.connected, c.offlines,
           c.closed, c.lost, c.why);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    c.dials = argc == 7 && !strcmp(argv[1], "dial");
    bool mailboxes = argc == 4 && !strcmp(argv[1], "mailboxes");
    c.n = c.dials || mailboxes ? (unsigned)atoi(argv[c.dials ? 4 : 3]) : 0;
    if (c.n == 0 || sodium_init() < 0 || tw_rdv_addr_parse(argv[2], &c.cfg.endpoint.servers[0], NULL) ||
        (c.dials && tw_address_parse(argv[3], &c.peer, NULL))) {
        fputs("usage: crowd mailboxes SERVER N | dial SERVER ADDRESS N EACH A_SECOND\n", stderr);
        return 2;
    }
    c.each = c.dials ? (unsigned)atoi(argv[5]) : 0;
    c.a_second = c.dials ? (unsigned)atoi(argv[6]) : 1000;
    c.cfg.on_event = on_event;
    c.cfg.endpoint.server_n = 1;
    c.cfg.endpoint.listen = mailboxes;
    c.cfg.endpoint.rungs = mailboxes ? 1U << TW_RUNG_PATCHED : 1U << TW_RUNG_UDP | 1U << TW_RUNG_PATCHED; /* a descriptor for each */
    c.cfg.endpoint.allow_any = true;
    c.cfg.endpoint.ice.no_mapping = true;
    tw_rt_raise_files(1 << 20);
    c.all = calloc(c.n, sizeof(*c.all));
    c.loop = uv_default_loop();
    uv_timer_init(c.loop, &c.second);
    uv_timer_init(c.loop, &c.next);
    if (!c.all)
        return 1;
    c.start = tw_rt_now();
    uv_timer_start(&c.second, on_second, 1000, 1000);
    uv_timer_start(&c.next, on_next, 0, 20);
    return uv_run(c.loop, UV_RUN_DEFAULT);
}
