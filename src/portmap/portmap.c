#include <thalweg/portmap.h>

#include <stdlib.h>

#include "portmap/wire.h"

/* Of RFC 6886 §3.1, also for PCP: the gateway is one hop away, and 3 s before the first repetition
 * (RFC 6887 §8.1.1) would come too late to be of use. */
static const tw_time FIRST_WAIT = 250 * TW_MSEC;
static const tw_time SOON = 10 * TW_SEC, AGAIN_MIN = 60 * TW_SEC, AGAIN_MAX = 1800 * TW_SEC;
enum { TRIES = 3, NO_EVENT = -1 };

enum state { FREE, WANTED, HELD, REMOVING };

struct mapping {
    uint8_t state, tries;     /* tries: requests sent since it was due; 0: none is under way */
    bool want_tx, tcp, failed; /* failed: that has been said */
    uint16_t port;
    uint16_t granted;         /* NAT-PMP: the outside port; the address comes on its own */
    int8_t event;             /* enum tw_portmap_event_type to be told, NO_EVENT */
    uint8_t nonce[PORTMAP_NONCE];
    unsigned code;
    const char *why;
    struct tw_addr outside;
    uint32_t lifetime;
    tw_time due, expires;     /* due: the next request, or the end of waiting; TW_NEVER */
};

enum protocol { UNKNOWN, PCP, NATPMP, SILENT };

struct tw_portmap {
    struct tw_portmap_config cfg;
    struct tw_env env;
    tw_time now;
    enum protocol protocol;
    bool want_outside;        /* NAT-PMP's question for the outside address is to be sent */
    bool closing, closed_said;
    bool has_epoch;
    uint32_t epoch;           /* the gateway's clock, in s, ... */
    tw_time epoch_at;         /* ... and ours, when it was read */
    struct tw_addr outside;   /* NAT-PMP */
    struct mapping maps[TW_PORTMAP_MAX];
    struct tw_bytes iov[1];
    uint8_t out[PORTMAP_MSG_MAX];
};

int tw_portmap_new(const struct tw_portmap_config *cfg, const struct tw_env *env,
                   struct tw_portmap **ret_portmap)
{
    if (!cfg->gateway.family || cfg->gateway.family != cfg->local.family)
        return TW_EINVAL;
    struct tw_portmap *p = calloc(1, sizeof(*p));
    if (!p)
        return TW_ENOMEM;
    p->cfg = *cfg;
    p->env = *env;
    if (!p->cfg.gateway.port)
        p->cfg.gateway.port = TW_PORTMAP_PORT;
    if (!p->cfg.lifetime)
        p->cfg.lifetime = 7200;
    *ret_portmap = p;
    return 0;
}

void tw_portmap_free(struct tw_portmap *p)
{
    free(p);
}

/* --- verbs ---------------------------------------------------------------------------------------- */

static const char *const no_protocol = "the gateway speaks neither PCP nor NAT-PMP";

static void ask(struct tw_portmap *p, struct mapping *m)
{
    m->tries = 0;
    m->granted = 0;
    m->due = p->now;
}

int tw_portmap_add(struct tw_portmap *p, tw_time now, bool tcp, uint16_t port, unsigned *ret_id)
{
    unsigned id = 0;
    if (!port)
        return TW_EINVAL;
    if (p->closing)
        return TW_ESTATE;
    while (id < TW_PORTMAP_MAX && p->maps[id].state != FREE)
        id++;
    if (id == TW_PORTMAP_MAX)
        return TW_EFULL;
    p->now = now;
    struct mapping *m = &p->maps[id];
    *m = (struct mapping){ .state = WANTED, .tcp = tcp, .port = port, .event = NO_EVENT,
                           .due = TW_NEVER };
    p->env.rng.fill(p->env.rng.ctx, m->nonce, sizeof(m->nonce));
    *ret_id = id;
    if (p->protocol == SILENT) {
        m->event = TW_PORTMAP_FAILED;
        m->why = no_protocol;
    } else {
        ask(p, m);
        tw_portmap_tick(p, now);
    }
    return 0;
}

void tw_portmap_refresh(struct tw_portmap *p, tw_time now)
{
    p->now = now;
    if (p->closing)
        return;
    if (p->protocol == SILENT)
        p->protocol = UNKNOWN;
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++)
        if (p->maps[i].state == HELD || (p->maps[i].state == WANTED && !p->maps[i].tries))
            ask(p, &p->maps[i]);
    tw_portmap_tick(p, now);
}

void tw_portmap_remove(struct tw_portmap *p, tw_time now, unsigned id)
{
    if (id >= TW_PORTMAP_MAX || p->maps[id].state == FREE || p->maps[id].state == REMOVING)
        return;
    struct mapping *m = &p->maps[id];
    p->now = now;
    m->event = NO_EVENT;
    /* One whose answer is still to come may exist, too. */
    bool exists = p->protocol != SILENT && (m->state == HELD || m->tries);
    m->state = exists ? REMOVING : FREE;
    if (exists) {
        ask(p, m);
        tw_portmap_tick(p, now);
    }
}

void tw_portmap_close(struct tw_portmap *p, tw_time now)
{
    p->now = now;
    p->closing = true;
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++)
        tw_portmap_remove(p, now, i);
}

bool tw_portmap_pending(const struct tw_portmap *p)
{
    if (p->closing && p->protocol == UNKNOWN) /* nobody has ever answered: it is told, but not waited for */
        return false;
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++)
        if (p->maps[i].state == REMOVING || (p->maps[i].state == WANTED && !p->maps[i].failed &&
                                             p->maps[i].event == NO_EVENT))
            return true;
    return false;
}

const char *tw_portmap_protocol(const struct tw_portmap *p)
{
    return p->protocol == PCP ? "PCP" : p->protocol == NATPMP ? "NAT-PMP" : NULL;
}

/* --- time ----------------------------------------------------------------------------------------- */

static void fail(struct mapping *m, unsigned code, const char *why)
{
    if (!m->failed)
        m->event = TW_PORTMAP_FAILED;
    m->failed = true;
    m->code = code;
    m->why = why;
}

/* Nobody listens there: no more packets. */
static void fall_silent(struct tw_portmap *p)
{
    p->protocol = SILENT;
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++) {
        struct mapping *m = &p->maps[i];
        if (m->state == WANTED)
            fail(m, 0, no_protocol);
        else if (m->state == REMOVING)
            m->state = FREE;
        m->due = TW_NEVER;
        m->want_tx = false;
    }
}

static void unanswered(struct tw_portmap *p, struct mapping *m)
{
    m->tries = 0;
    m->due = TW_NEVER;
    if (p->protocol == UNKNOWN) {
        fall_silent(p);
    } else if (m->state == REMOVING) {
        m->state = FREE;
    } else if (m->state == WANTED) {
        fail(m, 0, "the gateway does not answer any more");
        m->due = p->now + AGAIN_MIN;
    } else if (p->now >= m->expires) {
        m->state = WANTED;
        m->event = TW_PORTMAP_LOST;
        m->due = p->now + AGAIN_MIN;
    } else {
        tw_time left = m->expires - p->now;
        m->due = p->now + (left / 2 > SOON ? left / 2 : left < SOON ? left : SOON);
    }
}

static void step(struct tw_portmap *p, struct mapping *m)
{
    if (m->state == FREE || m->due > p->now)
        return;
    if (m->tries == TRIES) {
        unanswered(p, m);
        return;
    }
    m->tries++;
    m->want_tx = true;
    m->due = p->now + (FIRST_WAIT << (m->tries - 1));
    /* RFC 6886 §9.1 has clients find out by trying; a gateway of today answers the first. */
    if (p->protocol == NATPMP ? m->state != REMOVING : p->protocol == UNKNOWN && m->tries > 1)
        p->want_outside = true;
}

void tw_portmap_tick(struct tw_portmap *p, tw_time now)
{
    p->now = now;
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++)
        step(p, &p->maps[i]);
}

tw_time tw_portmap_deadline(const struct tw_portmap *p)
{
    tw_time at = TW_NEVER;
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++)
        if (p->maps[i].state != FREE)
            at = tw_time_min(at, p->maps[i].due);
    return at;
}

/* --- answers -------------------------------------------------------------------------------------- */

/* RFC 6887 §8.5, RFC 6886 §3.6: a clock that went back, or another way than ours, is that of a gateway
 * that has started anew and knows nothing of us. */
static bool has_forgotten(const struct tw_portmap *p, const struct portmap_answer *a)
{
    if (!p->has_epoch)
        return false;
    int64_t ours = (p->now - p->epoch_at) / TW_SEC, theirs = (int64_t)a->epoch - p->epoch;
    if (a->version == PORTMAP_NATPMP)
        return theirs + 2 < ours * 7 / 8;
    return theirs < -1 || ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16;
}

static void keep_epoch(struct tw_portmap *p, const struct portmap_answer *a)
{
    bool forgotten = has_forgotten(p, a);
    p->has_epoch = true;
    p->epoch = a->epoch;
    p->epoch_at = p->now;
    for (unsigned i = 0; i < TW_PORTMAP_MAX && forgotten; i++)
        if (p->maps[i].state == HELD)
            ask(p, &p->maps[i]);
}

/* Is this an address at which somebody outside could reach us? */
static bool is_plausible(const struct tw_addr *a)
{
    return a->port && tw_addr_is_unicast(a) && !tw_addr_is_loopback(a);
}

static void hold(struct tw_portmap *p, struct mapping *m, const struct tw_addr *outside)
{
    uint32_t random;
    bool same = m->state == HELD && tw_addr_eq(&m->outside, outside);
    p->env.rng.fill(p->env.rng.ctx, &random, sizeof(random));
    tw_time life = (tw_time)m->lifetime * TW_SEC;
    m->state = HELD;
    m->failed = m->want_tx = false;
    m->tries = 0;
    m->outside = *outside;
    m->expires = p->now + life;
    m->due = p->now + life / 2 + life / 8 / 256 * (random % 256); /* RFC 6887 §11.2.1 */
    if (!same)
        m->event = TW_PORTMAP_MAPPED;
}

static void refused(struct tw_portmap *p, struct mapping *m, const struct portmap_answer *a)
{
    tw_time wait = (tw_time)a->lifetime * TW_SEC;
    m->want_tx = false;
    m->tries = 0;
    if (m->state == HELD)
        m->event = TW_PORTMAP_LOST;
    else
        fail(m, a->code, portmap_reason(a->version, a->code));
    m->state = WANTED;
    m->due = p->now + (wait < AGAIN_MIN ? AGAIN_MIN : wait > AGAIN_MAX ? AGAIN_MAX : wait);
}

static struct mapping *find(struct tw_portmap *p, const struct portmap_answer *a)
{
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++) {
        struct mapping *m = &p->maps[i];
        if (m->state != FREE && m->port == a->port && m->tcp == a->tcp &&
            (a->version == PORTMAP_NATPMP || !memcmp(m->nonce, a->nonce, PORTMAP_NONCE)))
            return m;
    }
    return NULL;
}

static int on_map(struct tw_portmap *p, const struct portmap_answer *a)
{
    struct mapping *m = find(p, a);
    /* NAT-PMP has no nonce: only what was asked is answered. */
    if (!m || (a->version == PORTMAP_NATPMP && !m->tries))
        return TW_EMALFORMED;
    p->protocol = a->version == PORTMAP_PCP ? PCP : NATPMP;
    keep_epoch(p, a);
    if (m->state == REMOVING) {
        if (a->lifetime == 0 || a->code)
            m->state = FREE;
        return 0;
    }
    if (a->code || a->lifetime == 0) {
        refused(p, m, a);
        return 0;
    }
    struct tw_addr outside = a->outside;
    m->lifetime = a->lifetime;
    if (a->version == PORTMAP_NATPMP) {
        m->granted = a->outside.port;
        outside = p->outside;
        outside.port = m->granted;
        if (!outside.family)
            return 0; /* that is being asked for */
    }
    if (!is_plausible(&outside))
        return TW_EMALFORMED;
    hold(p, m, &outside);
    return 0;
}

static void speak_natpmp(struct tw_portmap *p)
{
    p->protocol = NATPMP;
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++)
        if (p->maps[i].state != FREE)
            ask(p, &p->maps[i]);
}

static int on_outside(struct tw_portmap *p, const struct portmap_answer *a)
{
    if (a->code)
        return 0; /* the mappings will be refused too, each with a reason */
    p->outside = a->outside;
    if (p->protocol == UNKNOWN)
        speak_natpmp(p);
    keep_epoch(p, a);
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++) {
        struct mapping *m = &p->maps[i];
        struct tw_addr outside = p->outside;
        outside.port = m->state == HELD ? m->outside.port : m->granted;
        if (!is_plausible(&outside))
            continue;
        if (m->state == WANTED) {
            hold(p, m, &outside);
        } else if (m->state == HELD && !tw_addr_eq(&m->outside, &outside)) {
            m->outside = outside; /* the gateway's own address has changed */
            m->event = TW_PORTMAP_MAPPED;
        }
    }
    return 0;
}

/* It understood the first byte: no PCP. */
static int on_version(struct tw_portmap *p)
{
    if (p->protocol != UNKNOWN)
        return TW_EMALFORMED;
    if (p->cfg.local.family == TW_FAMILY_V6) { /* of which NAT-PMP knows nothing */
        fall_silent(p);
        return 0;
    }
    speak_natpmp(p);
    return 0;
}

int tw_portmap_recv(struct tw_portmap *p, tw_time now, const struct tw_datagram *in)
{
    struct portmap_answer a;
    p->now = now;
    if (in->iov_n != 1 || in->src.port != p->cfg.gateway.port ||
        !tw_addr_eq_ip(&in->src, &p->cfg.gateway) || portmap_read(in->iov[0], &a) ||
        (p->protocol == PCP && a.version != PORTMAP_PCP) ||
        (p->protocol == NATPMP && a.version != PORTMAP_NATPMP) || p->protocol == SILENT)
        return TW_EMALFORMED;
    int err = a.what == PORTMAP_MAP       ? on_map(p, &a)
              : a.what == PORTMAP_OUTSIDE ? on_outside(p, &a)
                                          : on_version(p);
    tw_portmap_tick(p, now);
    return err;
}

/* --- outputs -------------------------------------------------------------------------------------- */

static bool emit(struct tw_portmap *p, size_t n, struct tw_datagram *ret_out)
{
    p->iov[0] = tw_bytes(p->out, n);
    *ret_out = (struct tw_datagram){ .sock = p->cfg.sock, .src = p->cfg.local,
                                     .dst = p->cfg.gateway, .iov = p->iov, .iov_n = 1 };
    return true;
}

bool tw_portmap_poll_tx(struct tw_portmap *p, struct tw_datagram *ret_out)
{
    if (p->want_outside && p->cfg.local.family == TW_FAMILY_V4) {
        p->want_outside = false;
        return emit(p, portmap_write_outside(p->out), ret_out);
    }
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++) {
        struct mapping *m = &p->maps[i];
        if (!m->want_tx)
            continue;
        m->want_tx = false;
        struct portmap_request r = { .tcp = m->tcp, .port = m->port, .local = p->cfg.local,
                                     .suggested = m->outside,
                                     .lifetime = m->state == REMOVING ? 0 : p->cfg.lifetime };
        memcpy(r.nonce, m->nonce, sizeof(r.nonce));
        if (!r.suggested.port)
            r.suggested.port = m->port;
        return emit(p, p->protocol == NATPMP ? portmap_write_natpmp(p->out, &r)
                                             : portmap_write_pcp(p->out, &r), ret_out);
    }
    return false;
}

bool tw_portmap_poll_event(struct tw_portmap *p, struct tw_portmap_event *ret_event)
{
    for (unsigned i = 0; i < TW_PORTMAP_MAX; i++) {
        struct mapping *m = &p->maps[i];
        if (m->state == FREE || m->event == NO_EVENT)
            continue;
        *ret_event = (struct tw_portmap_event){ .type = (enum tw_portmap_event_type)m->event,
                                                .id = i, .outside = m->outside,
                                                .lifetime = m->lifetime, .code = m->code,
                                                .why = m->why };
        m->event = NO_EVENT;
        return true;
    }
    if (!p->closing || p->closed_said || tw_portmap_pending(p))
        return false;
    p->closed_said = true;
    *ret_event = (struct tw_portmap_event){ .type = TW_PORTMAP_CLOSED };
    return true;
}
