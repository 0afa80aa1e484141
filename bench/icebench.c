/* Many ICE agents of ours on one UDP socket: what an idle connected agent costs, and what connecting one
 * costs. Both ends run here, over loopback in memory: datagrams go from one mux to the other at once, so
 * that only the machines are measured. usage: icebench [AGENTS] */
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <thalweg/ice.h>

#include "rt/os.h"

enum { DELAY_US = 100, HOUR = 3600 };

struct end {
    struct tw_ice_mux *mux;
    struct tw_addr addr;
    struct tw_ice **agents;
};

struct letter {
    struct letter *next;
    unsigned to;
    size_t n;
    uint8_t bytes[];
};

static struct end ends[2];
static struct letter *first, **last = &first;
static uint64_t packets, bytes, wakes;
static unsigned connected;

static void seeded(void *ctx, void *out, size_t n)
{
    uint64_t *x = ctx;
    for (size_t i = 0; i < n; i++) {
        uint64_t z = *x += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        ((uint8_t *)out)[i] = (uint8_t)(z >> 40);
    }
}

static void drain(unsigned side, struct tw_ice *a, tw_time now)
{
    struct tw_ice_event ev;
    struct tw_datagram d;
    for (bool more = true; more;) {
        while (tw_ice_poll_tx(a, &d)) {
            struct letter *l = malloc(sizeof(*l) + d.iov[0].n);
            if (!l)
                abort();
            *l = (struct letter){ .to = !side, .n = d.iov[0].n };
            memcpy(l->bytes, d.iov[0].p, d.iov[0].n);
            *last = l;
            last = &l->next;
            packets++;
            bytes += d.iov[0].n + 28;
        }
        more = tw_ice_poll_event(a, &ev);
        if (more && ev.type == TW_ICE_OPEN)
            tw_ice_opened(a, now, ev.sock, 0, &ends[side].addr);
        connected += more && ev.type == TW_ICE_CONNECTED;
    }
}

static void deliver(tw_time now)
{
    while (first) {
        struct letter *l = first;
        first = l->next;
        if (!first)
            last = &first;
        struct tw_bytes b = tw_bytes(l->bytes, l->n);
        struct tw_datagram d = { .src = ends[!l->to].addr, .dst = ends[l->to].addr, .iov = &b,
                                 .iov_n = 1 };
        struct tw_ice *a = tw_ice_mux_find(ends[l->to].mux, &d);
        if (a && !tw_ice_recv(a, now, &d))
            drain(l->to, a, now);
        free(l);
    }
}

static struct tw_ice *make(unsigned side, tw_time now, const struct tw_env *env)
{
    struct tw_ice_config cfg = { .controlling = side == 0, .own_peer = true, .mux = ends[side].mux };
    struct tw_ice_interface i = { .name = "eth0", .ip = tw_addr_ip_only(&ends[side].addr) };
    struct tw_ice *a;
    if (tw_ice_new(&cfg, env, &a) || tw_ice_interfaces(a, now, &i, 1))
        abort();
    drain(side, a, now);
    return a;
}

static size_t in_use(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 10000;
    uint64_t seed = 1;
    struct tw_env env = { .rng = { seeded, &seed } };
    tw_time now = 1000 * TW_SEC;
    char sdp[4096];
    size_t len, before = in_use();
    if (sodium_init() < 0 || n == 0)
        return 1;
    for (unsigned s = 0; s < 2; s++) {
        ends[s].addr = tw_addr_v4(198, 51, 100, (uint8_t)(s + 1), 4000);
        ends[s].agents = calloc(n, sizeof(struct tw_ice *));
        if (!ends[s].agents || tw_ice_mux_new(&env, n, &ends[s].mux))
            return 1;
    }
    tw_time cpu = tw_rt_thread_time();
    for (unsigned i = 0; i < n; i++) {
        for (unsigned s = 0; s < 2; s++)
            ends[s].agents[i] = make(s, now, &env);
        for (unsigned s = 0; s < 2; s++) {
            if (tw_ice_write_sdp(ends[s].agents[i], 0, sdp, sizeof(sdp), &len) ||
                tw_ice_read_sdp(ends[!s].agents[i], now, sdp, NULL))
                abort();
            drain(!s, ends[!s].agents[i], now);
        }
        now += DELAY_US * TW_USEC;
        deliver(now);
    }
    cpu = tw_rt_thread_time() - cpu;
    printf("%u agents at each of two sockets, %u connected; %.1f us of CPU time an agent to connect\n", n,
           connected, (double)cpu / 1e3 / (2.0 * n));
    for (tw_time end = now + 60 * TW_SEC; now < end; now += TW_SEC) /* they settle */
        for (unsigned s = 0; s < 2; s++)
            for (unsigned i = 0; i < n; i++)
                if (tw_ice_deadline(ends[s].agents[i]) <= now) {
                    tw_ice_tick(ends[s].agents[i], now);
                    drain(s, ends[s].agents[i], now);
                    deliver(now + DELAY_US * TW_USEC);
                }
    printf("memory: %.1f KiB an idle agent, its part of the mux included\n",
           (double)(in_use() - before) / 1024 / (2.0 * n));
    packets = bytes = 0;
    cpu = tw_rt_thread_time();
    for (tw_time end = now + HOUR * TW_SEC; now < end; now += 100 * TW_MSEC)
        for (unsigned s = 0; s < 2; s++)
            for (unsigned i = 0; i < n; i++)
                if (tw_ice_deadline(ends[s].agents[i]) <= now) {
                    wakes++;
                    tw_ice_tick(ends[s].agents[i], now);
                    drain(s, ends[s].agents[i], now);
                    deliver(now + DELAY_US * TW_USEC);
                }
    cpu = tw_rt_thread_time() - cpu;
    printf("an idle hour: %.0f packets, %.0f bytes with IPv4 headers, %.0f wake-ups an agent;\n"
           "%.0f s of CPU time for all, looking for what is due included\n",
           (double)packets / (2.0 * n), (double)bytes / (2.0 * n), (double)wakes / (2.0 * n),
           (double)cpu / 1e9);
    for (unsigned s = 0; s < 2; s++) {
        for (unsigned i = 0; i < n; i++)
            tw_ice_free(ends[s].agents[i]);
        tw_ice_mux_free(ends[s].mux);
        free(ends[s].agents);
    }
    return connected == 2 * n ? 0 : 1;
}
