/* Two endpoints, their rendezvous and its relay in the simulated network, under a list of steps: what their users want, what happens to
 * networks and servers, what a stranger sends, what a server that lies says, and time. The input: a byte for the kinds of NATs, then steps
 * of a kind, a parameter, a length and so many bytes. Whatever it is, bytes that arrive are those that were sent, in order, and nothing
 * spins. */
#include "fuzz.h"

#include "../sim/endpoint_node.h"

enum { STEPS_MAX = 48, DIALS_MAX = 4, WS_SHORT = 125 };

static struct {
    struct sim *sim;
    struct relay_node relay;
    struct desk_node desk;
    struct endpoint_node ends[2]; /* the first dials, the second listens */
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
    sim_run(w.sim, sim_now(w.sim) + span, NULL);
}

static struct endpoint_node *end(uint8_t which)
{
    return &w.ends[which & 1];
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
    const struct tw_addr desk = tw_addr_v4(203, 0, 114, 7, 0);
    uint8_t v6[16] = { 0x2a, 0, 0, 1, [15] = 1 };
    memset(&w, 0, sizeof(w));
    w.sim = sim_new(kinds + 1u);
    relay_node_init(&w.relay, w.sim, tw_addr_v4(203, 0, 114, 1, 0), tw_addr_v6(v6, 0), link, 1);
    desk_node_init(&w.desk, w.sim, desk, link, &w.relay, kinds & 16);
    relay_node_start(&w.relay);
    relay_node_listen(&w.relay, 3478);
    for (uint8_t i = 0; i < 2; i++) {
        w.nats[i] = sim_nat(w.sim, tw_addr_v4(198, 51, 100, (uint8_t)(1 + i), 0), all[kinds >> 2 * i & 3], NULL);
        sim_nat_set_link(w.nats[i], link);
        endpoint_node_init(end(i), w.sim, tw_addr_v4(192, 168, (uint8_t)(1 + i), 5, 0), w.nats[i], (struct sim_link){ .delay = TW_MSEC }, desk,
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
    if (c->stream < 0 && (e == end(1) || tw_endpoint_open(e->ep, sim_now(w.sim), c->id, &c->stream)))
        return;
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(*sent + i);
    if (!tw_endpoint_write(e->ep, sim_now(w.sim), c->id, c->stream, tw_bytes(bytes, n), false, &took))
        *sent += took;
    endpoint_node_pump(e);
}

static void move(uint8_t which, bool nowhere)
{
    struct endpoint_node *e = end(which);
    struct tw_addr ip = tw_addr_v4(192, 168, (uint8_t)(1 + (which & 1)), (uint8_t)(10 + ++w.moves), 0);
    sim_host_move(e->host, ip, w.nats[which & 1]);
    e->interface.ip = ip;
    if (tw_endpoint_interfaces(e->ep, sim_now(w.sim), &e->interface, !nowhere))
        abort();
    endpoint_node_pump(e);
}

/* To one of its sockets, from whoever that is. */
static void strange_datagram(uint8_t which, uint8_t parameter, struct tw_bytes b)
{
    struct endpoint_node *e = end(which);
    struct tw_datagram d = { .sock = (uint32_t)(parameter & 3) << TW_ENDPOINT_SOCK_BITS | (parameter >> 2 & 7), .iov = &b, .iov_n = 1,
                             .src = tw_addr_v4(198, 51, 100, (uint8_t)(1 + (parameter >> 5 & 3)), 3478), .dst = e->interface.ip };
    tw_endpoint_recv(e->ep, sim_now(w.sim), &d);
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
            tw_endpoint_recv(e->ep, sim_now(w.sim), &d);
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
    tw_time now = sim_now(w.sim);
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
    struct tw_address a = { .key = w.ends[1].id.key };
    uint32_t id;
    switch (kind & 15) {
    case 0:
        if (w.dials < DIALS_MAX && !tw_rdv_addr_parse("ws://desk.example", &a.server, NULL) &&
            !tw_endpoint_dial(w.ends[0].ep, sim_now(w.sim), &a, b, &id))
            w.dials++;
        endpoint_node_pump(&w.ends[0]);
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
        desk_node_restart(&w.desk);
        break;
    case 9:
        sim_host_sleep(parameter & 1 ? w.relay.host : end(which)->host, sim_now(w.sim) + parameter * 100 * TW_MSEC);
        break;
    case 10:
        strange_datagram(which, parameter, b);
        break;
    case 11:
        strange_message(which, b);
        break;
    case 12:
        w.lie = b;
        w.desk.tamper = lie;
        run(parameter * 10 * TW_MSEC);
        w.desk.tamper = NULL;
        break;
    case 13:
        tw_desk_recv(w.desk.desk, sim_now(w.sim), 1 + parameter % 8u, b);
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
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < w.ends[side].conn_n; i++) {
            const struct node_conn *c = &w.ends[side].conns[i];
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
    endpoint_node_fini(&w.ends[0]);
    endpoint_node_fini(&w.ends[1]);
    desk_node_fini(&w.desk);
    relay_node_fini(&w.relay);
    sim_free(w.sim);
    return 0;
}
