#include <thalweg/stun_client.h>

void tw_stun_client_init(struct tw_stun_client *c, const struct tw_stun_client_config *cfg,
                         const struct tw_env *env, tw_time now)
{
    *c = (struct tw_stun_client){ .cfg = *cfg, .env = *env };
    if (!c->cfg.timing)
        c->cfg.timing = &tw_stun_timing_rfc;
    tw_stun_txn_start(&c->txn, &c->env.rng, now);
    tw_stun_client_tick(c, now);
}

static void finish(struct tw_stun_client *c, struct tw_stun_client_event event)
{
    event.sent = c->txn.sent;
    c->event = event;
    c->want_tx = false;
    tw_stun_txn_stop(&c->txn);
}

void tw_stun_client_tick(struct tw_stun_client *c, tw_time now)
{
    uint8_t sent = c->txn.sent;
    int step = tw_stun_txn_step(&c->txn, c->cfg.timing, c->cfg.stream, now);
    if (step > 0) {
        c->want_tx = true;
        c->last_sent = now;
    } else if (step < 0) {
        c->txn.sent = sent;
        finish(c, (struct tw_stun_client_event){ .type = TW_STUN_CLIENT_FAILED,
                                                 .why = "the server did not answer" });
    }
}

static struct tw_stun_client_event read_error(const struct tw_stun_client *c,
                                              const struct tw_stun_msg *m)
{
    struct tw_stun_client_event ev = { .type = TW_STUN_CLIENT_FAILED };
    struct tw_bytes reason;
    if (!tw_stun_get_error(m, &ev.code, &reason)) {
        ev.why = "the server sent an error without a code";
    } else if (ev.code == TW_STUN_CODE_TRY_ALTERNATE &&
               tw_stun_get_addr(m, TW_STUN_A_ALTERNATE_SERVER, &ev.alternate) &&
               ev.alternate.family == c->cfg.server.family &&
               !tw_addr_eq(&ev.alternate, &c->cfg.server)) { /* RFC 8489 §10 */
        ev.type = TW_STUN_CLIENT_REDIRECT;
    } else {
        ev.why = "the server refused";
    }
    return ev;
}

/* RFC 8489 §9.1.4: an answer without the integrity of the request's kind is as if it had not come. */
static bool is_signed(const struct tw_stun_client *c, const struct tw_stun_msg *m)
{
    if (!c->cfg.password.n)
        return true;
    return c->cfg.sha256 ? tw_stun_verify_sha256(m, c->cfg.password)
                         : tw_stun_verify(m, c->cfg.password);
}

int tw_stun_client_recv(struct tw_stun_client *c, tw_time now, const struct tw_datagram *in)
{
    struct tw_stun_msg m;
    if (in->iov_n != 1 || !tw_addr_eq(&in->src, &c->cfg.server) ||
        tw_stun_decode(in->iov[0], &m) || m.bad_attr || m.method != TW_STUN_BINDING ||
        !tw_stun_txn_is(&c->txn, m.tid) || !is_signed(c, &m))
        return TW_EMALFORMED;

    if (m.cls == TW_STUN_ERROR) {
        finish(c, read_error(c, &m));
        return 0;
    }
    if (m.cls != TW_STUN_SUCCESS)
        return TW_EMALFORMED;
    struct tw_stun_client_event ev = { .type = TW_STUN_CLIENT_MAPPED, .rtt = now - c->last_sent };
    /* RFC 8489 §6.3.3: unknown comprehension-required attributes make the answer useless. A server
     * of the RFC 5389 age may send MAPPED-ADDRESS only. */
    if (m.unknown_n || (!tw_stun_get_addr(&m, TW_STUN_A_XOR_MAPPED_ADDRESS, &ev.mapped) &&
                        !tw_stun_get_addr(&m, TW_STUN_A_MAPPED_ADDRESS, &ev.mapped)))
        ev = (struct tw_stun_client_event){ .type = TW_STUN_CLIENT_FAILED,
                                            .why = "the server's answer has no address in it" };
    finish(c, ev);
    return 0;
}

bool tw_stun_client_poll_tx(struct tw_stun_client *c, struct tw_datagram *ret_out)
{
    struct tw_stun_enc e;
    if (!c->want_tx)
        return false;
    c->want_tx = false;
    tw_stun_begin(&e, c->buf, sizeof(c->buf), TW_STUN_REQUEST, TW_STUN_BINDING, c->txn.tid);
    if (c->cfg.software.n)
        tw_stun_add(&e, TW_STUN_A_SOFTWARE, c->cfg.software);
    if (c->cfg.password.n) {
        tw_stun_add(&e, TW_STUN_A_USERNAME, c->cfg.username);
        if (c->cfg.sha256)
            tw_stun_add_integrity_sha256(&e, c->cfg.password);
        else
            tw_stun_add_integrity(&e, c->cfg.password);
    }
    tw_stun_add_fingerprint(&e);
    if (tw_stun_end(&e))
        return false;
    c->tx = tw_bytes(e.w.p, e.w.n);
    *ret_out = (struct tw_datagram){
        .sock = c->cfg.sock, .dst = c->cfg.server, .iov = &c->tx, .iov_n = 1
    };
    return true;
}

bool tw_stun_client_poll_event(struct tw_stun_client *c, struct tw_stun_client_event *ret)
{
    if (c->event.type == TW_STUN_CLIENT_NONE)
        return false;
    *ret = c->event;
    c->event.type = TW_STUN_CLIENT_NONE;
    return true;
}

tw_time tw_stun_client_deadline(const struct tw_stun_client *c)
{
    return c->txn.due;
}
