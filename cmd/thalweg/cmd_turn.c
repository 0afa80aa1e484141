/* thalweg turn URI: two allocations on one server, and everything between them: permission,
 * channel, echo through the relay, throughput. With --peer only one, towards an echo server. */
#include "cmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <thalweg/turn.h>

#include "cmd_turn_tcp.h"
#include "rt/os.h"
#include "rt/resolve.h"

static const char usage[] =
    "usage: thalweg turn [options] URI\n\n"
    "Tests a TURN server: makes two allocations, sends packets from one to the other and back, and\n"
    "measures delay, loss and throughput. URI is turn:HOST[:PORT][?transport=udp|tcp], or turns: for TLS\n"
    "(?transport=udp: DTLS), or just the host.\n"
    "Exits with 0 when all of it worked, 1 when not, 2 on wrong usage.\n\n"
    "Options:\n";

static struct {
    bool json, v6, no_throughput, tcp_relay, mobility;
    const char *user, *password, *family, *peer;
    unsigned pings, seconds, size;
    struct cmd_tls tls;
} opt = { .pings = 20, .seconds = 2, .size = 1000 };

enum {
    PING_EVERY_MS = 20,
    PING_WAIT_MS = 1000,
    BULK_WINDOW = 256, /* datagrams under way */
    STALL_MS = 200,    /* nothing came for so long: what is under way is lost */
};

/* What a test packet carries. */
struct probe {
    uint32_t magic; /* PING or BULK */
    uint32_t seq;
    tw_time sent;
};
enum { PING = 0x74776770, BULK = 0x7477626b };

struct test;

struct side {
    struct test *test;
    const char *name;
    struct tw_turn *turn;
    struct tw_rt_agent agent;
    struct tw_addr relayed, mapped;
    uint32_t lifetime;
    tw_time started, ready;
    bool open, closed;
};

struct test {
    uv_loop_t *loop;
    uv_timer_t timer;
    struct side a, b; /* a sends, b echoes; with --peer there is no b */
    struct tw_uri uri;
    struct tw_addr server, target;
    enum { ALLOCATING, BINDING, PINGING, MOVING, BULKING, CLOSING } phase;
    bool moved;
    tw_time move_started;
    tw_time bind_started, bound, bulk_started, bulk_ended, last_bulk;
    unsigned sent, answered;
    double rtt_ms[1000];
    uint64_t bulk_sent, bulk_back, bulk_lost;
    bool failed;
    uint8_t packet[65536];
};

/* --- telling ------------------------------------------------------------------------------ */

static double ms(tw_time t)
{
    return (double)t / 1e6;
}

static void fail(struct test *t, const char *step, const char *why, unsigned code)
{
    if (t->failed)
        return;
    t->failed = true;
    if (opt.json) {
        printf("{\"event\":\"failed\",\"step\":\"%s\",\"code\":%u,\"why\":", step, code);
        cmd_json_string(stdout, why);
        printf("}\n");
    } else {
        fprintf(stderr, "thalweg: %s: %s", step, why);
        if (code)
            fprintf(stderr, " (%u %s)", code, tw_stun_reason(code));
        fputs("\n", stderr);
    }
    uv_stop(t->loop);
}

static void show_allocated(const struct side *s)
{
    char r[TW_ADDR_STRLEN], m[TW_ADDR_STRLEN];
    tw_addr_format(&s->relayed, r);
    tw_addr_format(&s->mapped, m);
    if (opt.json)
        printf("{\"event\":\"allocated\",\"side\":\"%s\",\"relayed\":\"%s\",\"mapped\":\"%s\","
               "\"lifetime\":%u,\"ms\":%.3f}\n", s->name, r, m, s->lifetime,
               ms(s->ready - s->started));
    else
        printf("allocation %s  %s  (seen as %s, for %u s) in %.1f ms\n", s->name, r, m, s->lifetime,
               ms(s->ready - s->started));
}

static void show_bound(const struct test *t)
{
    char p[TW_ADDR_STRLEN];
    tw_addr_format(&t->target, p);
    if (opt.json)
        printf("{\"event\":\"bound\",\"peer\":\"%s\",\"ms\":%.3f}\n", p,
               ms(t->bound - t->bind_started));
    else
        printf("permission and channel to %s in %.1f ms\n", p, ms(t->bound - t->bind_started));
}

static int compare(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void show_pings(struct test *t)
{
    unsigned n = t->answered;
    qsort(t->rtt_ms, n, sizeof(t->rtt_ms[0]), compare);
    double lo = n ? t->rtt_ms[0] : 0, mid = n ? t->rtt_ms[n / 2] : 0, hi = n ? t->rtt_ms[n - 1] : 0;
    if (opt.json)
        printf("{\"event\":\"echo\",\"sent\":%u,\"answered\":%u,\"min_ms\":%.3f,\"median_ms\":%.3f,"
               "\"max_ms\":%.3f}\n", t->sent, n, lo, mid, hi);
    else
        printf("echo through the relay: %u of %u answered, round trip %.2f / %.2f / %.2f ms (least, "
               "median, most)\n", n, t->sent, lo, mid, hi);
}

static void show_bulk(const struct test *t)
{
    double s = (double)(t->bulk_ended - t->bulk_started) / 1e9;
    double mbit = s > 0 ? (double)t->bulk_back * opt.size * 8 / 1e6 / s : 0;
    if (opt.json)
        printf("{\"event\":\"throughput\",\"mbit_per_s\":%.2f,\"packets\":%llu,\"lost\":%llu,"
               "\"size\":%u,\"seconds\":%.3f}\n", mbit, (unsigned long long)t->bulk_back,
               (unsigned long long)t->bulk_lost, opt.size, s);
    else
        printf("throughput: %.1f Mbit/s there and back, %llu packets of %u bytes, %llu lost\n", mbit,
               (unsigned long long)t->bulk_back, opt.size, (unsigned long long)t->bulk_lost);
}

/* --- sending ------------------------------------------------------------------------------ */

static bool send_probe(struct test *t, uint32_t magic, uint32_t seq, size_t size)
{
    struct probe p = { magic, seq, tw_rt_now() };
    memcpy(t->packet, &p, sizeof(p));
    if (tw_turn_send(t->a.turn, p.sent, &t->target, tw_bytes(t->packet, size), 0, 0))
        return false;
    tw_rt_agent_send(&t->a.agent);
    return true;
}

static void finish(struct test *t);
static void on_timer(uv_timer_t *timer);

static void start_pings(struct test *t)
{
    t->phase = PINGING;
    uv_timer_start(&t->timer, on_timer, 0, PING_EVERY_MS);
}

static void fill_window(struct test *t)
{
    tw_time now = tw_rt_now();
    if (now - t->bulk_started >= (tw_time)opt.seconds * TW_SEC) {
        t->bulk_ended = t->last_bulk > t->bulk_started ? t->last_bulk : now;
        finish(t);
        return;
    }
    for (int i = 0; i < 32 && t->bulk_sent - t->bulk_back - t->bulk_lost < BULK_WINDOW; i++)
        if (send_probe(t, BULK, (uint32_t)t->bulk_sent, opt.size))
            t->bulk_sent++;
}

static void start_bulk(struct test *t)
{
    t->phase = BULKING;
    t->bulk_started = t->last_bulk = tw_rt_now();
    uv_timer_start(&t->timer, on_timer, 0, 10);
}

/* A goes over to another socket (RFC 8016); then the pings are repeated. */
static void start_move(struct test *t)
{
    struct tw_addr any = { .family = t->server.family };
    t->phase = MOVING;
    t->move_started = tw_rt_now();
    if (tw_rt_agent_second(&t->a.agent, &any) || tw_turn_move(t->a.turn, t->move_started, 1))
        fail(t, "moving", "the server gave no ticket: it does not do mobility", 0);
}

static void on_moved(struct test *t, const struct tw_turn_event *ev)
{
    double took = ms(tw_rt_now() - t->move_started);
    (void)ev;
    if (opt.json)
        printf("{\"event\":\"moved\",\"ms\":%.3f}\n", took);
    else
        printf("allocation A moved to another port of this machine in %.1f ms\n", took);
    t->moved = true;
    t->sent = t->answered = 0;
    start_pings(t);
}

static void on_timer(uv_timer_t *timer)
{
    struct test *t = timer->data;
    if (t->phase == PINGING && t->sent < opt.pings) {
        if (send_probe(t, PING, t->sent, sizeof(struct probe)))
            t->sent++;
    } else if (t->phase == PINGING) {
        uv_timer_stop(&t->timer);
        if (t->answered < t->sent && uv_timer_get_repeat(&t->timer) == PING_EVERY_MS) {
            uv_timer_start(&t->timer, on_timer, PING_WAIT_MS, 0); /* the last ones may be late */
            return;
        }
        show_pings(t);
        if (t->answered == 0)
            fail(t, "echo", "nothing came back through the relay", 0);
        else if (opt.mobility && !t->moved)
            start_move(t);
        else if (opt.no_throughput)
            finish(t);
        else
            start_bulk(t);
    } else if (t->phase == BULKING) {
        if (tw_rt_now() - t->last_bulk > STALL_MS * TW_MSEC)
            t->bulk_lost = t->bulk_sent - t->bulk_back;
        fill_window(t);
    } else if (t->phase == CLOSING) {
        uv_stop(t->loop);
        return;
    }
    tw_rt_agent_pump(&t->a.agent);
}

static void finish(struct test *t)
{
    enum { CLOSE_WAIT_MS = 1000 };
    if (t->phase == BULKING)
        show_bulk(t);
    t->phase = CLOSING;
    uv_timer_start(&t->timer, on_timer, CLOSE_WAIT_MS, 0);
    tw_turn_close(t->a.turn, tw_rt_now());
    if (t->b.turn) {
        tw_turn_close(t->b.turn, tw_rt_now());
        tw_rt_agent_pump(&t->b.agent);
    }
}

/* --- events ------------------------------------------------------------------------------- */

static void on_echo(struct test *t, struct tw_bytes data)
{
    struct probe p;
    if (data.n < sizeof(p))
        return;
    memcpy(&p, data.p, sizeof(p));
    if (p.magic == PING && t->phase == PINGING && t->answered < 1000) {
        t->rtt_ms[t->answered++] = ms(tw_rt_now() - p.sent);
    } else if (p.magic == BULK && t->phase == BULKING) {
        t->bulk_back++;
        t->last_bulk = tw_rt_now();
    }
}

static void bind_both(struct test *t)
{
    tw_time now = tw_rt_now();
    t->phase = BINDING;
    t->bind_started = now;
    if (t->b.turn)
        t->target = t->b.relayed;
    int err = tw_turn_bind(t->a.turn, now, &t->target);
    if (!err && t->b.turn)
        err = tw_turn_bind(t->b.turn, now, &t->a.relayed);
    if (err) {
        fail(t, "channel", tw_strerror(err), 0);
        return;
    }
    tw_rt_agent_flush(&t->a.agent);
    if (t->b.turn)
        tw_rt_agent_flush(&t->b.agent);
}

static void on_allocated(struct side *s, const struct tw_turn_event *ev, tw_time now)
{
    struct test *t = s->test;
    s->relayed = ev->relayed[0];
    s->mapped = ev->mapped;
    s->lifetime = ev->lifetime;
    s->ready = now;
    s->open = true;
    show_allocated(s);
    if (t->a.open && (t->b.open || !t->b.turn))
        bind_both(t);
}

static bool all_bound(const struct test *t, tw_time now)
{
    return tw_turn_is_bound(t->a.turn, now, &t->target) &&
           (!t->b.turn || tw_turn_is_bound(t->b.turn, now, &t->a.relayed));
}

static void on_event(struct side *s, const struct tw_turn_event *ev, tw_time now)
{
    struct test *t = s->test;
    char text[TW_ADDR_STRLEN];
    switch (ev->type) {
    case TW_TURN_ALLOCATED:
        on_allocated(s, ev, now);
        break;
    case TW_TURN_BOUND:
        if (t->phase == BINDING && all_bound(t, now)) {
            t->bound = now;
            show_bound(t);
            start_pings(t);
        }
        break;
    case TW_TURN_DATA:
        if (s == &t->a)
            on_echo(t, ev->data);
        else if (!tw_turn_send(s->turn, now, &ev->peer, ev->data, ev->tos, 0))
            tw_rt_agent_send(&s->agent);
        break;
    case TW_TURN_ICMP:
        fprintf(stderr, "thalweg: ICMP type %u code %u from the way to %s\n", ev->icmp_type,
                ev->icmp_code, tw_addr_format(&ev->peer, text));
        break;
    case TW_TURN_FAILED:
        fail(t, "allocation", ev->why, ev->code);
        break;
    case TW_TURN_REFUSED:
        fail(t, t->phase == MOVING ? "moving" : "channel", ev->why, ev->code);
        break;
    case TW_TURN_MOVED:
        on_moved(t, ev);
        break;
    case TW_TURN_LOST:
        fail(t, "allocation", ev->why, ev->code);
        break;
    case TW_TURN_CLOSED:
        s->closed = true;
        if (t->a.closed && (t->b.closed || !t->b.turn))
            uv_stop(t->loop);
        break;
    case TW_TURN_REDIRECT:
        fail(t, "allocation", "the server sends us to another one; try that", 0);
        break;
    case TW_TURN_PERMITTED:
    case TW_TURN_CONNECTED:
    case TW_TURN_ATTEMPT:
        break;
    }
}

static void on_events(struct tw_rt_agent *a, tw_time now)
{
    struct side *s = a->user;
    struct tw_turn_event ev;
    while (tw_turn_poll_event(s->turn, &ev))
        on_event(s, &ev, now);
    if (s == &s->test->a && s->test->phase == BULKING)
        fill_window(s->test);
}

static void on_over(struct tw_rt_agent *a, const char *why)
{
    struct side *s = a->user;
    if (s->test->phase == CLOSING) {
        s->closed = true;
        uv_stop(s->test->loop);
    } else {
        fail(s->test, "connection", why, 0);
    }
}

/* --- life --------------------------------------------------------------------------------- */

static bool start_side(struct test *t, struct side *s, const char *name)
{
    static const struct tw_stun_timing timing = { .rto = 250 * TW_MSEC, .rc = 5, .rm = 4,
                                                  .stream_timeout = 10 * TW_SEC };
    struct tw_env env = { .rng = tw_rt_rng() };
    struct tw_turn_config cfg = { .server = t->server, .username = opt.user, .mobility = opt.mobility,
                                  .stream = cmd_is_stream(&t->uri),
                                  .password = opt.password, .timing = &timing,
                                  .families = opt.v6 ? TW_TURN_V6 : TW_TURN_V4 };
    *s = (struct side){ .test = t, .name = name };
    int err = tw_turn_new(&cfg, &env, &s->turn);
    if (err) {
        fprintf(stderr, "thalweg: user name or password: %s\n", tw_strerror(err));
        return false;
    }
    if (cmd_agent(&s->agent, t->loop, &t->uri, &t->server, &opt.tls, &tw_rt_turn, s->turn,
                  on_events)) {
        tw_turn_free(s->turn);
        return false;
    }
    s->agent.user = s;
    s->agent.on_over = on_over;
    s->started = tw_rt_now();
    if (tw_turn_allocate(s->turn, s->started))
        return false;
    tw_rt_agent_pump(&s->agent);
    return true;
}

static int run(struct test *t)
{
    t->loop = cmd_loop();
    uv_timer_init(t->loop, &t->timer);
    t->timer.data = t;
    if (!start_side(t, &t->a, "A") || (!opt.peer && !start_side(t, &t->b, "B")))
        return EXIT_FAILED;
    uv_run(t->loop, UV_RUN_DEFAULT);
    tw_rt_agent_fini(&t->a.agent);
    if (t->b.turn)
        tw_rt_agent_fini(&t->b.agent);
    uv_close((uv_handle_t *)&t->timer, NULL);
    uv_run(t->loop, UV_RUN_DEFAULT);
    uv_loop_close(t->loop);
    tw_turn_free(t->a.turn);
    tw_turn_free(t->b.turn);
    return t->failed ? EXIT_FAILED : EXIT_OK;
}

int cmd_turn(int argc, char **argv)
{
    const struct cmd_option options[] = {
        { "-u,--user", "NAME", &opt.user, 0, 0, "user name" },
        { "-w,--password", "PASSWORD", &opt.password, 0, 0, "password; others on this machine can see "
          "it, unlike THALWEG_PASSWORD" },
        { "--json", NULL, &opt.json, 0, 0, "print one line of JSON a step" },
        { "--family", "4|6", &opt.family, 0, 0, "reach the server over IPv4 or IPv6 only" },
        { "--relay-v6", NULL, &opt.v6, 0, 0, "ask for an IPv6 relayed address" },
        { "--peer", "IP:PORT", &opt.peer, 0, 0, "send to this UDP echo server instead of a second "
          "allocation" },
        { "--pings", "N", &opt.pings, 1, 1000, "echo packets (default 20)" },
        { "--seconds", "S", &opt.seconds, 1, 3600, "how long to measure throughput (default 2)" },
        { "--size", "BYTES", &opt.size, 16, 60000, "payload of throughput packets (default 1000)" },
        { "--tcp-relay", NULL, &opt.tcp_relay, 0, 0, "relay a TCP connection (RFC 6062) instead of UDP; "
          "the URI must be of TCP or TLS" },
        { "--mobility", NULL, &opt.mobility, 0, 0, "move one allocation to another port in between "
          "(RFC 8016); over UDP" },
        CMD_TLS_OPTIONS(&opt.tls),
        { "--no-throughput", NULL, &opt.no_throughput, 0, 0, "leave throughput out" },
        { 0 },
    };
    static struct test t;
    const char *text;
    struct tw_addr addrs[TW_RT_RESOLVED_MAX];
    unsigned n;
    bool done;
    int status = cmd_read(argc, argv, usage, options, &text, &done);
    if (status || done)
        return status;
    if (opt.user && !opt.password)
        opt.password = getenv("THALWEG_PASSWORD");
    if (!opt.user != !opt.password) {
        fprintf(stderr, "thalweg: --user and --password (or THALWEG_PASSWORD) go together\n");
        return EXIT_USAGE;
    }
    if (opt.peer && (tw_addr_parse(opt.peer, 0, &t.target) || !t.target.port)) {
        fprintf(stderr, "thalweg: --peer must be IP:PORT, not \"%s\"\n", opt.peer);
        return EXIT_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    status = cmd_find_server(text, true, opt.family, &t.uri, addrs, &n);
    if (status)
        return status;
    t.server = addrs[0];
    if (opt.tcp_relay && (opt.peer || !cmd_is_stream(&t.uri))) {
        fprintf(stderr, "thalweg: --tcp-relay needs a URI with ?transport=tcp, and no --peer\n");
        return EXIT_USAGE;
    }
    if (opt.mobility && (opt.tcp_relay || t.uri.transport != TW_TRANSPORT_UDP)) {
        fprintf(stderr, "thalweg: --mobility is shown over UDP\n");
        return EXIT_USAGE;
    }
    if (opt.tcp_relay)
        return cmd_turn_tcp(&(struct cmd_turn_tcp){
            .uri = &t.uri, .server = &t.server, .tls = &opt.tls, .user = opt.user,
            .password = opt.password, .pings = opt.pings, .seconds = opt.no_throughput ? 0 : opt.seconds,
            .v6 = opt.v6, .json = opt.json });
    return run(&t);
}
