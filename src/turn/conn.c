/* Binding a data connection (RFC 6062 §4.4). */
#include "turn/internal.h"

#include <stdlib.h>

struct tw_turn_conn {
    struct tw_stun_cred cred;
    bool has_cred;
    struct tw_env env;
    const struct tw_stun_timing *timing;
    uint32_t connection;
    enum tw_turn_conn_state state;
    unsigned code;
    struct request rq;
    uint8_t build[BUILD_MAX];
};

static void ask(struct tw_turn_conn *c, tw_time now)
{
    tw_stun_txn_start(&c->rq.txn, &c->env.rng, now);
    c->rq.want = tw_stun_txn_step(&c->rq.txn, c->timing, true, now) > 0;
}

int tw_turn_conn_new(const struct tw_turn *t, tw_time now, uint32_t connection,
                     struct tw_turn_conn **ret_conn)
{
    struct tw_turn_conn *c = calloc(1, sizeof(*c));
    if (!c)
        return TW_ENOMEM;
    c->cred = t->cred;
    c->cred.algos.p = c->cred.algos_buf;
    c->has_cred = t->has_cred;
    c->env = t->env;
    c->timing = t->cfg.timing;
    c->connection = connection;
    ask(c, now);
    *ret_conn = c;
    return 0;
}

void tw_turn_conn_free(struct tw_turn_conn *c)
{
    if (!c)
        return;
    tw_stun_cred_fini(&c->cred);
    free(c);
}

static void response(struct tw_turn_conn *c, tw_time now, const struct tw_stun_msg *m)
{
    struct tw_bytes reason;
    enum tw_stun_verdict v = c->has_cred ? tw_stun_cred_judge(&c->cred, m) : TW_STUN_OK;
    if (v == TW_STUN_IGNORE)
        return;
    if (v == TW_STUN_RETRY && ++c->rq.challenges <= MAX_CHALLENGES) {
        ask(c, now);
        return;
    }
    tw_stun_txn_stop(&c->rq.txn);
    c->state = m->cls == TW_STUN_SUCCESS ? TW_TURN_CONN_OPEN : TW_TURN_CONN_FAILED;
    if (m->cls == TW_STUN_ERROR)
        tw_stun_get_error(m, &c->code, &reason);
}

int tw_turn_conn_recv(struct tw_turn_conn *c, tw_time now, struct tw_bytes in, size_t *ret_used)
{
    size_t n;
    *ret_used = 0;
    while (c->state == TW_TURN_CONN_BINDING) {
        struct tw_stun_msg m;
        const uint8_t *p = in.p + *ret_used;
        if (tw_stun_frame(p, in.n - *ret_used, &n))
            return TW_EMALFORMED;
        if (n == 0)
            return 0;
        *ret_used += n;
        if (p[0] >> 6 == 0 && !tw_stun_decode(tw_bytes(p, n), &m) && !m.bad_attr &&
            (m.cls == TW_STUN_SUCCESS || m.cls == TW_STUN_ERROR) &&
            tw_stun_txn_is(&c->rq.txn, m.tid))
            response(c, now, &m);
    }
    return 0;
}

bool tw_turn_conn_poll_tx(struct tw_turn_conn *c, struct tw_bytes *ret_out)
{
    if (!c->rq.want)
        return false;
    c->rq.want = false;
    *ret_out = turn_build_connection_bind(c->has_cred ? &c->cred : NULL, c->build,
                                          sizeof(c->build), c->rq.txn.tid, c->connection);
    return ret_out->n > 0;
}

enum tw_turn_conn_state tw_turn_conn_state(struct tw_turn_conn *c, tw_time now,
                                           unsigned *ret_code)
{
    if (c->state == TW_TURN_CONN_BINDING &&
        tw_stun_txn_step(&c->rq.txn, c->timing, true, now) < 0)
        c->state = TW_TURN_CONN_FAILED;
    *ret_code = c->code;
    return c->state;
}
