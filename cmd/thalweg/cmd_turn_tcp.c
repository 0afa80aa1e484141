#include "cmd_turn_tcp.h"

#include <stdlib.h>
#include <string.h>

#include <thalweg/turn.h>

#include "rt/os.h"

enum { CHUNK = 16384, WINDOW = 16 * CHUNK, PING = 8, WAIT_MS = 20000, CLOSE_MS = 1000 };

struct test;

/* One client: its allocation, and its data connection once there is one. */
struct end {
    struct test *test;
    const char *name;
    struct tw_turn *turn;
    struct tw_rt_agent agent;
    struct tw_addr relayed;
    struct tw_turn_conn *conn;
    struct tw_rt_link link;
    bool allocated, linked, open;
};

/* A connects to B's relayed address; B sends back what it gets. */
static struct test {
    const struct cmd_turn_tcp *how;
    uv_loop_t *loop;
    uv_timer_t timer;
    struct end a, b;
    enum { SETTING_UP, PINGING, BULKING, CLOSING } phase;
    tw_time started, asked, sent_at;
    unsigned answered;
    size_t ping_bytes;
    double rtt_ms[1000];
    uint64_t sent, back;
    tw_time bulk_started;
    bool failed;
} t;

static double ms(tw_time v)
{
    return (double)v / 1e6;
}

static void fail(const char *step, const char *why, unsigned code)
{
    if (t.failed || t.phase == CLOSING)
        return;
    t.failed = true;
    if (t.how->json) {
        printf("{\"event\":\"failed\",\"step\":\"%s\",\"code\":%u,\"why\":", step, code);
        cmd_json_string(stdout, why);
        printf("}\n");
    } else {
        fprintf(stderr, "thalweg: %s: %s", step, why);
        if (code)
            fprintf(stderr, " (%u %s)", code, tw_stun_reason(code));
        fputs("\n", stderr);
    }
    uv_stop(t.loop);
}

/* --- pings, then as much as goes ------------------------------------------------------------ */

static int compare(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void show_pings(void)
{
    qsort(t.rtt_ms, t.answered, sizeof(t.rtt_ms[0]), compare);
    double mid = t.answered ? t.rtt_ms[t.answered / 2] : 0;
    if (t.how->json)
        printf("{\"event\":\"echo\",\"answered\":%u,\"median_ms\":%.3f}\n", t.answered, mid);
    else
        printf("echo through the TCP connection: %u answered, round trip %.2f ms (median)\n",
               t.answered, mid);
}

static void finish(void)
{
    t.phase = CLOSING;
    tw_turn_close(t.a.turn, tw_rt_now());
    tw_turn_close(t.b.turn, tw_rt_now());
    tw_rt_agent_flush(&t.a.agent);
    tw_rt_agent_flush(&t.b.agent);
    uv_stop(t.loop);
}

static void ping(void)
{
    uint8_t bytes[PING] = { 0 };
    struct tw_bytes data = tw_bytes(bytes, sizeof(bytes));
    t.sent_at = tw_rt_now();
    t.ping_bytes = 0;
    (void)!tw_rt_link_send(&t.a.link, &data, 1);
}

static void fill(void)
{
    static uint8_t chunk[CHUNK];
    struct tw_bytes data = tw_bytes(chunk, sizeof(chunk));
    while (t.sent - t.back < WINDOW && tw_rt_link_send(&t.a.link, &data, 1))
        t.sent += CHUNK;
}

static void on_bulk(size_t n)
{
    tw_time now = tw_rt_now();
    t.back += n;
    if (now - t.bulk_started < (tw_time)t.how->seconds * TW_SEC) {
        fill();
        return;
    }
    double s = (double)(now - t.bulk_started) / 1e9, mbit = (double)t.back * 8 / 1e6 / s;
    if (t.how->json)
        printf("{\"event\":\"throughput\",\"mbit_per_s\":%.2f,\"seconds\":%.3f}\n", mbit, s);
    else
        printf("throughput: %.1f Mbit/s there and back\n", mbit);
    finish();
}

static void on_echo(size_t n)
{
    if (t.phase == BULKING) {
        on_bulk(n);
        return;
    }
    t.ping_bytes += n;
    if (t.phase != PINGING || t.ping_bytes < PING)
        return;
    t.rtt_ms[t.answered++] = ms(tw_rt_now() - t.sent_at);
    if (t.answered < t.how->pings) {
        ping();
        return;
    }
    show_pings();
    if (!t.how->seconds) {
        finish();
        return;
    }
    t.phase = BULKING;
    t.bulk_started = tw_rt_now();
    fill();
}

/* --- the data connections ------------------------------------------------------------------- */

static void pump_bind(struct end *e)
{
    struct tw_bytes out;
    unsigned code;
    while (tw_turn_conn_poll_tx(e->conn, &out))
        (void)!tw_rt_link_send(&e->link, &out, 1);
    enum tw_turn_conn_state state = tw_turn_conn_state(e->conn, tw_rt_now(), &code);
    if (state == TW_TURN_CONN_FAILED)
        fail("connection bind", "the server refused the data connection", code);
    if (state != TW_TURN_CONN_OPEN || e->open)
        return;
    e->open = true;
    if (!t.a.open || !t.b.open)
        return;
    if (t.how->json)
        printf("{\"event\":\"joined\",\"ms\":%.3f}\n", ms(tw_rt_now() - t.asked));
    else
        printf("TCP connection from A to B through the relay in %.1f ms\n",
               ms(tw_rt_now() - t.asked));
    t.phase = PINGING;
    ping();
}

static void on_link_open(struct tw_rt_link *l)
{
    pump_bind(l->user);
}

static size_t on_link_data(struct tw_rt_link *l, struct tw_bytes in)
{
    struct end *e = l->user;
    size_t used = 0;
    if (!e->open) {
        if (tw_turn_conn_recv(e->conn, tw_rt_now(), in, &used))
            fail("connection bind", "the server's answer makes no sense", 0);
        pump_bind(e);
    }
    struct tw_bytes rest = tw_bytes(in.p + used, in.n - used);
    if (!e->open || rest.n == 0)
        return used;
    if (e == &t.b)
        (void)!tw_rt_link_send(l, &rest, 1);
    else
        on_echo(rest.n);
    return in.n;
}

static void on_link_over(struct tw_rt_link *l, const char *why)
{
    (void)l;
    fail("data connection", why, 0);
}

static void open_link(struct end *e, uint32_t connection)
{
    static const struct tw_rt_link_events events = { on_link_open, on_link_data, on_link_over };
    struct tw_rt_link_config how;
    if (e->linked)
        return;
    if (cmd_link_config(t.how->uri, t.how->server, t.how->tls, &how) ||
        tw_turn_conn_new(e->turn, tw_rt_now(), connection, &e->conn) ||
        tw_rt_link_open(&e->link, t.loop, &how, &events, e)) {
        fail("data connection", "cannot be opened", 0);
        return;
    }
    e->linked = true;
}

/* --- the allocations ------------------------------------------------------------------------ */

static void on_allocated(struct end *e, const struct tw_turn_event *ev)
{
    char text[TW_ADDR_STRLEN];
    e->relayed = ev->relayed[0];
    e->allocated = true;
    tw_addr_format(&e->relayed, text);
    if (t.how->json)
        printf("{\"event\":\"allocated\",\"side\":\"%s\",\"relayed\":\"%s\",\"ms\":%.3f}\n", e->name,
               text, ms(tw_rt_now() - t.started));
    else
        printf("TCP allocation %s  %s in %.1f ms\n", e->name, text, ms(tw_rt_now() - t.started));
    if (!t.a.allocated || !t.b.allocated)
        return;
    if (tw_turn_permit(t.b.turn, tw_rt_now(), &t.a.relayed))
        fail("permission", "no permission for the other side", 0);
    tw_rt_agent_flush(&t.b.agent);
}

static void on_event(struct end *e, const struct tw_turn_event *ev, tw_time now)
{
    switch (ev->type) {
    case TW_TURN_ALLOCATED:
        on_allocated(e, ev);
        break;
    case TW_TURN_PERMITTED:
        t.asked = now;
        if (e == &t.b && tw_turn_connect(t.a.turn, now, &t.b.relayed))
            fail("connection", "cannot be asked for", 0);
        tw_rt_agent_flush(&t.a.agent);
        break;
    case TW_TURN_CONNECTED:
    case TW_TURN_ATTEMPT:
        open_link(e, ev->connection);
        break;
    case TW_TURN_FAILED:
    case TW_TURN_LOST:
        fail("allocation", ev->why, ev->code);
        break;
    case TW_TURN_REFUSED:
        fail("connection", ev->why, ev->code);
        break;
    default:
        break;
    }
}

static void on_events(struct tw_rt_agent *a, tw_time now)
{
    struct end *e = a->user;
    struct tw_turn_event ev;
    while (tw_turn_poll_event(e->turn, &ev))
        on_event(e, &ev, now);
}

static void on_over(struct tw_rt_agent *a, const char *why)
{
    (void)a;
    fail("connection", why, 0);
}

static bool start(struct end *e, const char *name)
{
    struct tw_env env = { .rng = tw_rt_rng() };
    struct tw_turn_config cfg = { .server = *t.how->server, .username = t.how->user,
                                  .password = t.how->password, .stream = true, .tcp = true,
                                  .families = t.how->v6 ? TW_TURN_V6 : TW_TURN_V4 };
    e->test = &t;
    e->name = name;
    if (tw_turn_new(&cfg, &env, &e->turn) ||
        cmd_agent(&e->agent, t.loop, t.how->uri, t.how->server, t.how->tls, &tw_rt_turn, e->turn,
                  on_events))
        return false;
    e->agent.user = e;
    e->agent.on_over = on_over;
    if (tw_turn_allocate(e->turn, tw_rt_now()))
        return false;
    tw_rt_agent_pump(&e->agent);
    return true;
}

static void on_late(uv_timer_t *timer)
{
    (void)timer;
    fail("waiting", "it takes too long", 0);
}

static void stop(struct end *e)
{
    if (e->linked)
        tw_rt_link_close(&e->link, NULL);
    tw_rt_agent_fini(&e->agent);
}

int cmd_turn_tcp(const struct cmd_turn_tcp *how)
{
    t.how = how;
    t.loop = cmd_loop();
    t.started = tw_rt_now();
    uv_timer_init(t.loop, &t.timer);
    uv_timer_start(&t.timer, on_late, WAIT_MS + how->seconds * 1000u, 0);
    if (!start(&t.a, "A") || !start(&t.b, "B"))
        return EXIT_FAILED;
    uv_run(t.loop, UV_RUN_DEFAULT);
    stop(&t.a);
    stop(&t.b);
    uv_close((uv_handle_t *)&t.timer, NULL);
    uv_run(t.loop, UV_RUN_DEFAULT);
    uv_loop_close(t.loop);
    tw_turn_conn_free(t.a.conn);
    tw_turn_conn_free(t.b.conn);
    tw_turn_free(t.a.turn);
    tw_turn_free(t.b.turn);
    return t.failed ? EXIT_FAILED : EXIT_OK;
}
