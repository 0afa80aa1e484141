#include <stdlib.h>

#include "peer.h"
#include "rt/os.h"

enum { SETTLE_MS = 100 };

static struct ping {
    struct peer peer;
    uint32_t conn;
    unsigned count, interval, sent;
    uv_timer_t timer;
    bool connected;
} ping;

static double ms(tw_time t)
{
    return (double)t / (double)TW_MSEC;
}

static void show(void)
{
    char local[TW_ADDR_STRLEN], remote[TW_ADDR_STRLEN];
    struct tw_endpoint_conn c;
    if (tw_endpoint_conn(ping.peer.rt.endpoint, ping.conn, &c))
        return;
    tw_addr_format(&c.path.local, local);
    tw_addr_format(&c.path.remote, remote);
    double rtt = ms(c.rtt), min = ms(c.min_rtt), jitter = ms(c.jitter), waits = ms(c.path.waits);
    char text[60] = "";
    if (c.path.waits)
        snprintf(text, sizeof(text), ", %.2f of waiting in the stream", waits);
    peer_json(&ping.peer, "ping",
              ",\"rung\":%s,\"rtt_ms\":%f,\"min_rtt_ms\":%f,\"jitter_ms\":%f,\"waits_ms\":%f,\"lost\":%l,\"mtu\":%u,\"local\":%s,"
              "\"remote\":%s",
              tw_rung_name(c.path.rung), rtt, min, jitter, waits, c.datagrams_lost, (unsigned)c.mtu, local, remote);
    if (!ping.peer.o->json)
        printf("%-8s %8.2f ms  (least %.2f, jitter %.2f%s)  %s to %s, packets of %zu bytes\n", tw_rung_name(c.path.rung), rtt,
               min, jitter, text, local, remote, c.mtu);
    fflush(stdout);
}

/* All that works, and what became of the pings. */
static void summarize(void)
{
    struct tw_endpoint_path all[32];
    struct tw_endpoint_conn c;
    char local[TW_ADDR_STRLEN], remote[TW_ADDR_STRLEN];
    size_t n = tw_endpoint_paths(ping.peer.rt.endpoint, ping.conn, all, 32);
    if (tw_endpoint_conn(ping.peer.rt.endpoint, ping.conn, &c))
        return;
    uint64_t lost = c.datagrams_lost < ping.count ? c.datagrams_lost : ping.count;
    if (!ping.peer.o->json)
        printf("%u sent, %llu lost (%.0f %%)\n", ping.count, (unsigned long long)lost,
               100.0 * (double)lost / ping.count);
    for (size_t i = 0; i < n; i++) {
        bool used = tw_addr_eq(&all[i].local, &c.path.local) && tw_addr_eq(&all[i].remote, &c.path.remote);
        tw_addr_format(&all[i].local, local);
        tw_addr_format(&all[i].remote, remote);
        peer_json(&ping.peer, "way", ",\"rung\":%s,\"rtt_ms\":%f,\"waits_ms\":%f,\"used\":%b,\"local\":%s,\"remote\":%s",
                  tw_rung_name(all[i].rung), ms(all[i].rtt), ms(all[i].waits), used, local, remote);
        if (!ping.peer.o->json)
            printf("%-8s %8.2f ms  %s to %s%s\n", tw_rung_name(all[i].rung), ms(all[i].rtt), local, remote,
                   used ? "  (used)" : "");
    }
    fflush(stdout);
}

/* A datagram is answered by an acknowledgement: that is the round trip which QUIC measures. */
static void on_timer(uv_timer_t *t)
{
    (void)t;
    if (ping.sent)
        show();
    if (ping.sent++ == ping.count) {
        summarize();
        peer_end(&ping.peer, EXIT_OK);
        return;
    }
    (void)!tw_endpoint_datagram(ping.peer.rt.endpoint, tw_rt_now(), ping.conn, tw_bytes("ping", 4));
    tw_rt_endpoint_pump(&ping.peer.rt);
}

static void on_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    if (ev->type == TW_EP_CONNECTED) {
        ping.connected = true;
        uv_timer_start(&ping.timer, on_timer, SETTLE_MS, ping.interval); /* the first ways come and go */
    } else if (ev->type == TW_EP_CLOSED) {
        peer_say(p, "thalweg: %s", ev->why ? ev->why : "closed");
        uv_timer_stop(&ping.timer);
        peer_end(p, ping.connected ? EXIT_FAILED : peer_status_of(ev));
    }
}

int cmd_ping(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg ping [options] ADDRESS\n\n"
        "Connects with a machine and says by which way, how long a round trip takes, what is lost, and which other\n"
        "ways there are.\n\n";
    static struct peer_options o;
    ping.count = 5;
    ping.interval = 1000;
    const struct cmd_option options[] = {
        { "-c,--count", "N", &ping.count, 1, 1000000, "so many (5)" },
        { "-i,--interval", "MS", &ping.interval, 10, 60000, "so often, in milliseconds (1000)" },
        PEER_OPTIONS(&o),
        { NULL },
    };
    struct tw_endpoint_config cfg = { 0 };
    struct cmd_operands address = PEER_ADDRESS;
    bool done;
    int status = cmd_read_many(argc, argv, usage, options, &address, &done);
    if (status || done)
        return status;
    ping.peer.verb = argv[0];
    ping.peer.on_event = on_event;
    status = peer_open(&ping.peer, &o, &cfg, false);
    if (status)
        return status;
    uv_timer_init(ping.peer.loop, &ping.timer);
    uv_unref((uv_handle_t *)&ping.timer);
    status = peer_dial(&ping.peer, address.at[0], tw_bytes(NULL, 0), &ping.conn);
    if (status)
        peer_end(&ping.peer, status);
    return peer_run(&ping.peer);
}
