#include <stdlib.h>

#include "peer.h"
#include "rt/os.h"

static struct ping {
    struct peer peer;
    uint32_t conn;
    unsigned count, interval, sent;
    uv_timer_t timer;
    bool connected;
} ping;

static void show(void)
{
    char local[TW_ADDR_STRLEN], remote[TW_ADDR_STRLEN];
    struct tw_endpoint_conn c;
    if (tw_endpoint_conn(ping.peer.rt.endpoint, ping.conn, &c))
        return;
    tw_addr_format(&c.path.local, local);
    tw_addr_format(&c.path.remote, remote);
    double rtt = (double)c.rtt / (double)TW_MSEC, min = (double)c.min_rtt / (double)TW_MSEC;
    peer_json(&ping.peer, "ping", ",\"rung\":%s,\"rtt_ms\":%f,\"min_rtt_ms\":%f,\"mtu\":%u,\"local\":%s,\"remote\":%s",
              tw_rung_name(c.path.rung), rtt, min, (unsigned)c.mtu, local, remote);
    if (!ping.peer.o->json)
        printf("%-8s %8.2f ms  (least %.2f ms)  %s to %s, packets of %zu bytes\n", tw_rung_name(c.path.rung), rtt, min,
               local, remote, c.mtu);
    fflush(stdout);
}

/* A datagram is answered by an acknowledgement: that is the round trip which QUIC measures. */
static void on_timer(uv_timer_t *t)
{
    (void)t;
    if (ping.sent)
        show();
    if (ping.sent++ == ping.count) {
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
        uv_timer_start(&ping.timer, on_timer, 0, ping.interval);
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
        "Connects with a machine and says by which way, and how long a round trip takes.\n\n";
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
