#include <thalweg/behaviour.h>

/* The tests of RFC 5780 §4.3 (mapping) and §4.4 (filtering), and §4.5 (hairpinning), in the order in
 * which they are run: the filter is looked at before anything goes to the server's other address,
 * which would open it. Each is one request; not to get an answer is an answer too. */
enum step {
    FIRST,           /* test I: learns both addresses */
    FILTER_BOTH,     /* filtering test II: answer from other address and port */
    FILTER_PORT,     /* filtering test III: from another port only */
    MAP_OTHER_IP,    /* mapping test II */
    MAP_OTHER_BOTH,  /* mapping test III */
    HAIRPIN,         /* to ourselves */
    END,
};

enum { CHANGE_IP = 4, CHANGE_PORT = 2 };

static void begin(struct tw_behaviour *b, enum step step, tw_time now)
{
    b->step = (uint8_t)step;
    tw_stun_txn_stop(&b->txn);
    if (step == END) {
        b->done = true;
        return;
    }
    tw_stun_txn_start(&b->txn, &b->env.rng, now);
    tw_behaviour_tick(b, now);
}

void tw_behaviour_init(struct tw_behaviour *b, const struct tw_behaviour_config *cfg,
                       const struct tw_env *env, tw_time now)
{
    *b = (struct tw_behaviour){ .cfg = *cfg, .env = *env };
    if (!b->cfg.timing)
        b->cfg.timing = &tw_stun_timing_rfc;
    begin(b, FIRST, now);
}

/* How two mappings compare when the remote address, then the port, differs. */
static void judge_mapping(struct tw_behaviour *b)
{
    struct tw_behaviour_event *ev = &b->event;
    if (tw_addr_eq(&ev->mapped, &b->cfg.local))
        ev->mapping = TW_NAT_NONE;
    else if (!b->mapped[1].family)
        ev->mapping = TW_NAT_UNKNOWN; /* the other address does not answer */
    else if (tw_addr_eq(&b->mapped[0], &b->mapped[1]))
        ev->mapping = TW_NAT_INDEPENDENT;
    else if (b->mapped[2].family)
        ev->mapping = tw_addr_eq(&b->mapped[1], &b->mapped[2]) ? TW_NAT_ADDRESS
                                                               : TW_NAT_ADDRESS_AND_PORT;
}

/* What comes after a step that was answered, or was not. */
static void next(struct tw_behaviour *b, bool answered, tw_time now)
{
    struct tw_behaviour_event *ev = &b->event;
    switch (b->step) {
    case FIRST:
        ev->answered = answered;
        ev->can = answered && ev->other.family == b->cfg.server.family;
        ev->port_preserved = ev->mapped.port == b->cfg.local.port;
        begin(b, !answered ? END : ev->can ? FILTER_BOTH : HAIRPIN, now);
        break;
    case FILTER_BOTH:
        if (answered)
            ev->filtering = TW_NAT_INDEPENDENT;
        begin(b, answered ? MAP_OTHER_IP : FILTER_PORT, now);
        break;
    case FILTER_PORT:
        ev->filtering = answered ? TW_NAT_ADDRESS : TW_NAT_ADDRESS_AND_PORT;
        begin(b, MAP_OTHER_IP, now);
        break;
    case MAP_OTHER_IP:
        judge_mapping(b);
        begin(b, answered && ev->mapping == TW_NAT_UNKNOWN ? MAP_OTHER_BOTH : HAIRPIN, now);
        break;
    case MAP_OTHER_BOTH:
        judge_mapping(b);
        begin(b, HAIRPIN, now);
        break;
    default:
        ev->hairpin = answered;
        begin(b, END, now);
        break;
    }
}

/* Where the request of a step goes. */
static struct tw_addr target(const struct tw_behaviour *b)
{
    struct tw_addr to = b->cfg.server;
    if (b->step == HAIRPIN)
        return b->event.mapped;
    if (b->step == MAP_OTHER_IP || b->step == MAP_OTHER_BOTH) {
        to = b->event.other;
        if (b->step == MAP_OTHER_IP)
            to.port = b->cfg.server.port;
    }
    return to;
}

/* Where its answer must come from. */
static bool from_right_place(const struct tw_behaviour *b, const struct tw_addr *src)
{
    struct tw_addr other = b->event.other, to = target(b);
    if (b->step == FILTER_BOTH)
        return tw_addr_eq(src, &other);
    if (b->step == FILTER_PORT)
        return tw_addr_eq_ip(src, &to) && src->port == other.port;
    return tw_addr_eq(src, &to);
}

int tw_behaviour_recv(struct tw_behaviour *b, tw_time now, const struct tw_datagram *in)
{
    struct tw_stun_msg m;
    struct tw_addr mapped;
    if (in->iov_n != 1 || tw_stun_decode(in->iov[0], &m) || m.bad_attr ||
        m.method != TW_STUN_BINDING || !tw_stun_txn_is(&b->txn, m.tid))
        return TW_EMALFORMED;
    if (b->step == HAIRPIN && m.cls == TW_STUN_REQUEST) { /* our own question */
        next(b, true, now);
        return 0;
    }
    if (!from_right_place(b, &in->src))
        return TW_EMALFORMED;
    if (m.cls != TW_STUN_SUCCESS || m.unknown_n ||
        !tw_stun_get_addr(&m, TW_STUN_A_XOR_MAPPED_ADDRESS, &mapped)) {
        next(b, false, now);
        return 0;
    }
    if (b->step == FIRST) {
        b->event.mapped = mapped;
        tw_stun_get_addr(&m, TW_STUN_A_OTHER_ADDRESS, &b->event.other);
    }
    if (b->step == FIRST)
        b->mapped[0] = mapped;
    else if (b->step == MAP_OTHER_IP || b->step == MAP_OTHER_BOTH)
        b->mapped[1 + b->step - MAP_OTHER_IP] = mapped;
    next(b, true, now);
    return 0;
}

void tw_behaviour_tick(struct tw_behaviour *b, tw_time now)
{
    int step = tw_stun_txn_step(&b->txn, b->cfg.timing, false, now);
    if (step > 0)
        b->want_tx = true;
    else if (step < 0)
        next(b, false, now);
}

bool tw_behaviour_poll_tx(struct tw_behaviour *b, struct tw_datagram *ret_out)
{
    struct tw_stun_enc e;
    if (!b->want_tx || b->done)
        return false;
    b->want_tx = false;
    tw_stun_begin(&e, b->buf, sizeof(b->buf), TW_STUN_REQUEST, TW_STUN_BINDING, b->txn.tid);
    if (b->step == FILTER_BOTH)
        tw_stun_add_u32(&e, TW_STUN_A_CHANGE_REQUEST, CHANGE_IP | CHANGE_PORT);
    else if (b->step == FILTER_PORT)
        tw_stun_add_u32(&e, TW_STUN_A_CHANGE_REQUEST, CHANGE_PORT);
    tw_stun_add_fingerprint(&e);
    if (tw_stun_end(&e))
        return false;
    b->tx = tw_bytes(e.w.p, e.w.n);
    *ret_out = (struct tw_datagram){ .sock = b->cfg.sock, .dst = target(b), .iov = &b->tx,
                                     .iov_n = 1 };
    return true;
}

bool tw_behaviour_poll_event(struct tw_behaviour *b, struct tw_behaviour_event *ret)
{
    if (!b->done)
        return false;
    b->done = false;
    b->step = END;
    *ret = b->event;
    return true;
}

tw_time tw_behaviour_deadline(const struct tw_behaviour *b)
{
    return b->txn.due;
}
