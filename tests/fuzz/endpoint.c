/* Two endpoints, their rendezvous and its relay in the simulated network, under a list of steps: what their users want, what happens to
 * networks and servers, what a stranger sends, what a server that lies says, and time. The input: a byte for the kinds of NATs, then steps
 * of a kind, a parameter, a length and so many bytes. Whatever it is, bytes that arrive are those that were sent, in order, and nothing
 * spins. */
#include "fuzz.h"

#include "../sim/meeting.h"

enum { STEPS_MAX = 48, DIALS_MAX = 4, WS_SHORT = 125 };

static struct {
    struct meeting m;             /* a dials, b listens */
    struct sim_nat *nats[2];
    size_t sent[2][NODE_CONNS];   /* by each, on its n-th connection */
    unsigned dials, moves;
    struct tw_bytes lie;          /* bytes that the server hears instead of ours, once */
} w;

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static void run(tw_time span)
{
    sim_run(w.m.sim, sim_now(w.m.sim) + span, NULL);
}

static struct endpoint_node *end(uint8_t which)
{
    return which & 1 ? &w.m.b : &w.m.a;
}

static void begin(uint8_t kinds)
{
    static const struct sim_nat_kind all[] = {
        { .filtering = SIM_ADDRESS_AND_PORT },
        { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT, .ports = SIM_PORTS_RANDOM },
        { .mapping = SIM_ADDRESS_AND_PORT, .filtering = SIM_ADDRESS_AND_PORT, .ports = SIM_PORTS_SEQUENTIAL, .life = 20 * TW_SEC },
        { .filtering = SIM_ADDRESS_AND_PORT, .no_udp = true },
    };
    const struct sim_link link = { .delay = 10 * TW_MSEC };
    memset(&w, 0, sizeof(w));
    meeting_begin(&w.m, kinds + 1u, link, kinds & 16);
    for (uint8_t i = 0; i < 2; i++) {
        w.nats[i] = sim_nat(w.m.sim, tw_addr_v4(198, 51, 100, (uint8_t)(1 + i), 0), all[kinds >> 2 * i & 3], NULL);
        sim_nat_set_link(w.nats[i], link);
        endpoint_node_init(end(i), w.m.sim, tw_addr_v4(192, 168, (uint8_t)(1 + i), 5, 0), w.nats[i], (struct sim_link){ .delay = TW_MSEC }, meeting_desk(),
                           &(struct endpoint_node_config){ .key = (uint8_t)(1 + i), .listen = i, .allow_any = true, .tcp = kinds & 32 });
    }
    run(TW_SEC);
}

static void write_more(uint8_t which, uint8_t conn, size_t n)
{
    struct endpoint_node *e = end(which);
    struct node_conn *c = e->conn_n ? &e->conns[conn % e->conn_n] : NULL;
    uint8_t bytes[16 * 255];
    size_t took = 0;
    if (!c || !c->ready || c->closed)
        return;
    size_t *sent = &w.sent[which & 1][c - e->conns];
    if (c->stream < 0 && (e == &w.m.b || tw_endpoint_open(e->ep, sim_now(w.m.sim), c->id, &c->stream)))
        return;
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(*sent + i);
    if (!tw_endpoint_write(e->ep, sim_now(w.m.sim), c->id, c->stream, tw_bytes(bytes, n), false, &took))
        *sent += took;
    endpoint_node_pump(e);
}

static void move(uint8_t which, bool nowhere)
{
    struct endpoint_node *e = end(which);
    struct tw_addr ip = tw_addr_v4(192, 168, (uint8_t)(1 + (which & 1)), (uint8_t)(10 + ++w.moves), 0);
    sim_host_move(e->host, ip, w.nats[which & 1]);
    e->interface.ip = ip;
    if (tw_endpoint_interfaces(e->ep, sim_now(w.m.sim), &e->interface, !nowhere))
        abort();
    endpoint_node_pump(e);
}

/* To one of its sockets, from whoever that is. */
static void strange_datagram(uint8_t which, uint8_t parameter, struct tw_bytes b)
{
    struct endpoint_node *e = end(which);
    struct tw_datagram d = { .sock = (uint32_t)(parameter & 3) << TW_ENDPOINT_SOCK_BITS | (parameter >> 2 & 7), .iov = &b, .iov_n = 1,
                             .src = tw_addr_v4(198, 51, 100, (uint8_t)(1 + (parameter >> 5 & 3)), 3478), .dst = e->interface.ip };
    tw_endpoint_recv(e->ep, sim_now(w.m.sim), &d);
    endpoint_node_pump(e);
}

/* A message of its rendezvous's that it never wrote. */
static void strange_message(uint8_t which, struct tw_bytes b)
{
    struct endpoint_node *e = end(which);
    uint8_t frame[2 + WS_SHORT] = { 0x82, (uint8_t)(b.n < WS_SHORT ? b.n : WS_SHORT) };
    struct tw_bytes all = tw_bytes(frame, 2u + frame[1]);
    memcpy(frame + 2, b.p, frame[1]);
    for (int i = 0; i < STREAMS; i++)
        if (e->streams.all[i].id >> TW_ENDPOINT_SOCK_BITS == TW_ENDPOINT_CONNS_MAX + 1) {
            struct tw_datagram d = { .sock = e->streams.all[i].id, .iov = &all, .iov_n = 1 };
            tw_endpoint_recv(e->ep, sim_now(w.m.sim), &d);
            break;
        }
    endpoint_node_pump(e);
}

static bool lie(struct desk_node *n, uint8_t *p, size_t len)
{
    (void)n;
    for (size_t i = 0; i < len && i < w.lie.n; i++)
        p[i] ^= w.lie.p[i];
    w.lie.n = 0;
    return true;
}

static void verb(uint8_t which, uint8_t parameter, struct tw_bytes b)
{
    struct endpoint_node *e = end(which);
    uint32_t conn = e->conn_n ? e->conns[parameter % e->conn_n].id : 1;
    tw_time now = sim_now(w.m.sim);
    char text[4096];
    switch (parameter >> 5) {
    case 0:
        tw_endpoint_hangup(e->ep, now, conn, parameter, "bye");
        break;
    case 1:
        (void)!tw_endpoint_datagram(e->ep, now, conn, b);
        break;
    case 2:
        tw_endpoint_reset(e->ep, now, conn, 4 * (parameter & 1), 7);
        break;
    case 3:
        tw_endpoint_clock(e->ep, now, NODE_NOON + (uint64_t)parameter * 60000);
        break;
    case 4:
        (void)!tw_endpoint_invites(e->ep, now, &(struct tw_endpoint_invite){ .uses = parameter & 3 }, 1);
        break;
    case 5:
        tw_endpoint_disallow_all(e->ep);
        break;
    case 6:
        (void)tw_endpoint_explain(e->ep, conn, text, sizeof(text));
        break;
    default:
        tw_endpoint_close(e->ep, now);
    }
    endpoint_node_pump(e);
}

static void step(uint8_t kind, uint8_t parameter, struct tw_bytes payload)
{
    static const struct sim_link dead = { .loss = 1000 }, alive = { .delay = TW_MSEC };
    uint8_t *exact = fuzz_exact(payload), which = kind >> 4 & 1;
    struct tw_bytes b = tw_bytes(exact, payload.n);
    struct tw_address a = { .key = w.m.b.id.key, .server_n = 1 };
    uint32_t id;
    switch (kind & 15) {
    case 0:
        if (w.dials < DIALS_MAX && !tw_rdv_addr_parse("ws://desk.example", &a.servers[0], NULL) &&
            !tw_endpoint_dial(w.m.a.ep, sim_now(w.m.sim), &a, b, &id))
            w.dials++;
        endpoint_node_pump(&w.m.a);
        break;
    case 1:
    case 2:
        write_more(which, parameter, payload.n * 16 > 16 * 255 ? 16 * 255 : payload.n * 16);
        break;
    case 3:
    case 4:
        run((tw_time)parameter * parameter * 2 * TW_MSEC);
        break;
    case 5:
        move(which, parameter & 1);
        break;
    case 6:
        sim_host_set_link(end(which)->host, parameter & 1 ? dead : alive);
        break;
    case 7:
        sim_nat_reboot(w.nats[which]);
        break;
    case 8:
        desk_node_restart(&w.m.desk);
        break;
    case 9:
        sim_host_sleep(parameter & 1 ? w.m.relay.host : end(which)->host, sim_now(w.m.sim) + parameter * 100 * TW_MSEC);
        break;
    case 10:
        strange_datagram(which, parameter, b);
        break;
    case 11:
        strange_message(which, b);
        break;
    case 12:
        w.lie = b;
        w.m.desk.tamper = lie;
        run(parameter * 10 * TW_MSEC);
        w.m.desk.tamper = NULL;
        break;
    case 13:
        tw_desk_recv(w.m.desk.desk, sim_now(w.m.sim), 1 + parameter % 8u, b);
        break;
    default:
        verb(which, parameter, b);
    }
    run(50 * TW_MSEC);
    free(exact);
}

/* Those that arrived are those that were sent, on the connection that it says. */
static void check(void)
{
    for (uint8_t side = 0; side < 2; side++)
        for (unsigned i = 0; i < end(side)->conn_n; i++) {
            const struct node_conn *c = &end(side)->conns[i];
            for (size_t k = 0; k < c->got; k++)
                if (c->bytes[k] != byte_at(k))
                    abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct tw_rd r = tw_rd(tw_bytes(p, n));
    begin(tw_rd_u8(&r));
    for (int i = 0; i < STEPS_MAX && r.n && !r.error; i++) {
        uint8_t kind = tw_rd_u8(&r), parameter = tw_rd_u8(&r);
        size_t len = tw_rd_u8(&r);
        step(kind, parameter, tw_rd_bytes(&r, len < r.n ? len : r.n));
    }
    check();
    meeting_end(&w.m);
    return 0;
}
