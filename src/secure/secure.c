#include "secure/secure.h"

#include <stdio.h>
#include <stdlib.h>

#include <sodium.h>

#include "ident/ident.h"
#include "secure/internal.h"

#define HANDSHAKE_TIMEOUT (30 * TW_SEC)

/* --- datagrams that wait -------------------------------------------------------------------------- */

static struct datagram *datagram_new(struct tw_bytes data)
{
    struct datagram *d = malloc(sizeof(*d) + data.n);
    if (!d)
        return NULL;
    *d = (struct datagram){ .n = data.n };
    if (data.n)
        memcpy(d->b, data.p, data.n);
    return d;
}

static int queue_put(struct datagrams *q, struct tw_bytes data)
{
    struct datagram *d = datagram_new(data);
    if (!d)
        return TW_ENOMEM;
    if (q->tail)
        q->tail->next = d;
    else
        q->head = d;
    q->tail = d;
    q->n++;
    return 0;
}

static struct datagram *queue_get(struct datagrams *q)
{
    struct datagram *d = q->head;
    if (!d)
        return NULL;
    q->head = d->next;
    if (!q->head)
        q->tail = NULL;
    q->n--;
    return d;
}

static void queue_free(struct datagrams *q)
{
    struct datagram *d;
    while ((d = queue_get(q)))
        free(d);
}

/* --- the end -------------------------------------------------------------------------------------- */

/* Ours, as it is sent; there is none before keys are agreed upon. */
static void make_bye(struct tw_secure *s, const ngtcp2_ccerr *why)
{
    uint8_t buf[TW_SECURE_MTU_MIN];
    ngtcp2_pkt_info pi;
    ngtcp2_path_storage ps;
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_ssize n = ngtcp2_conn_write_connection_close(s->conn, &ps.path, &pi, buf, sizeof(buf), why, secure_clock(s));
    if (n <= 0)
        return;
    secure_set_version(buf, (size_t)n, SECURE_VERSION_ON_WIRE);
    s->bye = datagram_new(tw_bytes(buf, (size_t)n));
    s->bye_due = s->bye != NULL;
}

static void closed(struct tw_secure *s, uint64_t code, const char *reason, bool by_peer)
{
    if (s->closed)
        return;
    s->closed = true;
    s->code = code;
    s->by_peer = by_peer;
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
}

/* The peer said goodbye, or QUIC did. */
static void drained(struct tw_secure *s)
{
    const ngtcp2_ccerr *e = ngtcp2_conn_get_ccerr(s->conn);
    char reason[TW_SECURE_REASON_MAX + 1];
    if (e->type == NGTCP2_CCERR_TYPE_APPLICATION) {
        size_t n = e->reasonlen < TW_SECURE_REASON_MAX ? e->reasonlen : TW_SECURE_REASON_MAX;
        for (size_t i = 0; i < n; i++) /* a stranger's words: they may not steer a terminal */
            reason[i] = e->reason[i] >= ' ' && e->reason[i] < 127 ? (char)e->reason[i] : '?';
        reason[n] = 0;
        closed(s, e->error_code, reason, true);
    } else {
        bool alert = e->error_code >= NGTCP2_CRYPTO_ERROR && e->error_code < NGTCP2_CRYPTO_ERROR + 0x100;
        closed(s, TW_SECURE_REFUSED,
               alert ? "the other side refused our key" : "the other side broke the connection off", true);
    }
}

static void broken(struct tw_secure *s, int err)
{
    ngtcp2_ccerr e;
    if (err == NGTCP2_ERR_DRAINING) {
        drained(s);
        return;
    }
    if (err == NGTCP2_ERR_HANDSHAKE_TIMEOUT) {
        closed(s, TW_SECURE_LOST, "the other side did not finish the handshake in 30 s", false);
        return;
    }
    ngtcp2_ccerr_default(&e);
    if (err == NGTCP2_ERR_CRYPTO)
        ngtcp2_ccerr_set_tls_alert(&e, ngtcp2_conn_get_tls_alert(s->conn), NULL, 0);
    else
        ngtcp2_ccerr_set_liberr(&e, err, NULL, 0);
    make_bye(s, &e);
    closed(s, TW_SECURE_REFUSED, secure_tls_why(s), false);
}

/* --- QUIC's callbacks ----------------------------------------------------------------------------- */

static int on_crypto(ngtcp2_conn *conn, ngtcp2_encryption_level level, uint64_t offset,
                     const uint8_t *data, size_t n, void *user)
{
    ((struct tw_secure *)user)->heard = true;
    return ngtcp2_crypto_recv_crypto_data_cb(conn, level, offset, data, n, user);
}

static int on_completed(ngtcp2_conn *conn, void *user)
{
    struct tw_secure *s = user;
    (void)conn;
    s->completed = true;
    s->confirmed = s->cfg.server; /* it has judged the client's key (RFC 9001 §4.1.2) */
    return 0;
}

static int on_confirmed(ngtcp2_conn *conn, void *user)
{
    (void)conn;
    ((struct tw_secure *)user)->confirmed = true;
    return 0;
}

static int on_stream_open(ngtcp2_conn *conn, int64_t id, void *user)
{
    struct stream *t = secure_stream_add(user, id);
    (void)conn;
    if (!t)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    t->fresh = true;
    secure_stream_ready(user, t);
    return 0;
}

static int on_datagram_acked(ngtcp2_conn *conn, uint64_t id, void *user)
{
    (void)conn, (void)id;
    ((struct tw_secure *)user)->datagrams_acked++;
    secure_acked(user);
    return 0;
}

static int on_datagram_lost(ngtcp2_conn *conn, uint64_t id, void *user)
{
    (void)conn, (void)id;
    ((struct tw_secure *)user)->datagrams_lost++;
    return 0;
}

static int on_datagram(ngtcp2_conn *conn, uint32_t flags, const uint8_t *data, size_t n, void *user)
{
    struct tw_secure *s = user;
    (void)conn, (void)flags;
    if (s->in.n >= DATAGRAMS_MAX || queue_put(&s->in, tw_bytes(data, n)))
        s->dropped++; /* as on a network */
    return 0;
}

static void random_bytes(struct tw_secure *s, void *out, size_t n)
{
    s->env.rng.fill(s->env.rng.ctx, out, n);
}

static void on_rand(uint8_t *out, size_t n, const ngtcp2_rand_ctx *ctx)
{
    random_bytes(ctx->native_handle, out, n);
}

static int on_new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t n, void *user)
{
    (void)conn;
    cid->datalen = n;
    random_bytes(user, cid->data, n);
    random_bytes(user, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    return 0;
}

static const ngtcp2_callbacks callbacks = {
    .client_initial = secure_client_initial,
    .recv_client_initial = secure_recv_client_initial,
    .recv_crypto_data = on_crypto,
    .handshake_completed = on_completed,
    .handshake_confirmed = on_confirmed,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = secure_on_stream_data,
    .acked_stream_data_offset = secure_on_acked,
    .stream_open = on_stream_open,
    .stream_close = secure_on_stream_close,
    .stream_reset = secure_on_stream_reset,
    .stream_stop_sending = secure_on_stop_sending,
    .extend_max_stream_data = secure_on_more_stream_data,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .rand = on_rand,
    .get_new_connection_id = on_new_cid,
    .update_key = ngtcp2_crypto_update_key_cb,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .recv_datagram = on_datagram,
    .ack_datagram = on_datagram_acked,
    .lost_datagram = on_datagram_lost,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

/* --- life ----------------------------------------------------------------------------------------- */

static void write_qlog(void *user, uint32_t flags, const void *data, size_t n)
{
    const struct tw_secure *s = user;
    (void)flags;
    s->cfg.qlog(s->cfg.qlog_ctx, data, n);
}

static void settle(struct tw_secure *s, ngtcp2_settings *set, ngtcp2_transport_params *params)
{
    ngtcp2_settings_default(set);
    set->cc_algo = NGTCP2_CC_ALGO_BBR;
    if (s->cfg.qlog)
        set->qlog_write = write_qlog;
    set->initial_ts = secure_clock(s);
    set->initial_rtt = 100 * NGTCP2_MILLISECONDS; /* of which PTO becomes three times: 300 ms */
    set->max_tx_udp_payload_size = TW_SECURE_MTU_MAX;
    set->no_tx_udp_payload_size_shaping = 1;
    set->no_pmtud = 1;
    set->handshake_timeout = HANDSHAKE_TIMEOUT;
    set->max_window = 24 << 20;
    set->max_stream_window = 16 << 20;
    set->rand_ctx.native_handle = s;
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_local = 1 << 20;
    params->initial_max_stream_data_bidi_remote = 1 << 20;
    params->initial_max_data = 4 << 20;
    params->initial_max_streams_bidi = STREAMS_MAX;
    params->max_datagram_frame_size = 65535;
    params->active_connection_id_limit = 7;
    params->max_udp_payload_size = 65527;
}

static int start(struct tw_secure *s, const ngtcp2_cid *dcid, const ngtcp2_cid *original)
{
    ngtcp2_settings set;
    ngtcp2_transport_params params;
    /* One who is a client needs none to know what is for it: and so a server, when the path changes, has none to change. */
    ngtcp2_cid scid = { .datalen = s->cfg.server ? CID_LEN : 0 };
    random_bytes(s, scid.data, scid.datalen);
    settle(s, &set, &params);
    int err = secure_tls_start(s);
    if (err)
        return err;
    if (s->cfg.server) {
        params.original_dcid = *original;
        params.original_dcid_present = 1;
        err = ngtcp2_conn_server_new(&s->conn, dcid, &scid, &s->path, NGTCP2_PROTO_VER_V1, &callbacks, &set,
                                     &params, NULL, s);
    } else {
        err = ngtcp2_conn_client_new(&s->conn, dcid, &scid, &s->path, NGTCP2_PROTO_VER_V1, &callbacks, &set,
                                     &params, NULL, s);
    }
    if (err)
        return TW_ENOMEM;
    ngtcp2_conn_set_tls_native_handle(s->conn, s->tls);
    return 0;
}

static void stop(struct tw_secure *s)
{
    if (s->conn)
        ngtcp2_conn_del(s->conn);
    s->conn = NULL;
    secure_tls_end(s);
}

int tw_secure_new(const struct tw_secure_config *cfg, const struct tw_env *env, tw_time now,
                  struct tw_secure **ret_secure)
{
    struct tw_secure *s = calloc(1, sizeof(*s));
    if (!s)
        return TW_ENOMEM;
    s->cfg = *cfg;
    s->env = *env;
    s->now = now;
    s->mtu = TW_SECURE_MTU_MIN;
    s->ready_tail = &s->ready;
    s->send_tail = &s->send;
    secure_path_init(s);
    tw_map_init(&s->streams, 4 * STREAMS_MAX);
    /* Labels: addresses that mean nothing. */
    s->local = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = 1, .sin_addr = { 1 } };
    s->remote = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = 2, .sin_addr = { 2 } };
    s->path = (ngtcp2_path){ { (ngtcp2_sockaddr *)&s->local, sizeof(s->local) },
                             { (ngtcp2_sockaddr *)&s->remote, sizeof(s->remote) }, NULL };
    if (!cfg->server) {
        ngtcp2_cid dcid = { .datalen = NGTCP2_MIN_INITIAL_DCIDLEN };
        random_bytes(s, dcid.data, dcid.datalen);
        int err = start(s, &dcid, NULL);
        if (err) {
            tw_secure_free(s);
            return err;
        }
    }
    *ret_secure = s;
    return 0;
}

void tw_secure_free(struct tw_secure *s)
{
    if (!s)
        return;
    stop(s);
    secure_streams_free(s);
    queue_free(&s->in);
    queue_free(&s->out);
    free(s->shown);
    free(s->bye);
    sodium_memzero(s->cfg.secret, sizeof(s->cfg.secret));
    free(s);
}

/* --- in ------------------------------------------------------------------------------------------- */

/* A server's first packet: makes the connection, which is nothing yet if the packet is not the peer's. */
static bool accept_first(struct tw_secure *s, const uint8_t *p, size_t n)
{
    ngtcp2_pkt_hd hd;
    if (ngtcp2_accept(&hd, p, n) != 0 || start(s, &hd.scid, &hd.dcid)) {
        stop(s);
        return false;
    }
    return true;
}

/* What it is answered with; while we close, too, where it can't be told from the rest that comes. */
static void heard_bye(struct tw_secure *s, const uint8_t *p, size_t n)
{
    if (n < HEARD_OF)
        return;
    memcpy(s->heard_bye, p + n - HEARD_OF, HEARD_OF);
    s->answer_due = true;
}

/* The peer has heard our goodbye. */
static void recv_answer(struct tw_secure *s, const uint8_t *p, size_t n)
{
    if (s->closing && s->bye && n == 1 + HEARD_OF && s->bye->n >= HEARD_OF &&
        memcmp(p + 1, s->bye->b + s->bye->n - HEARD_OF, HEARD_OF) == 0)
        s->closed = true;
}

static void recv_one(struct tw_secure *s, const uint8_t *p, size_t n, uint8_t tos)
{
    ngtcp2_pkt_info pi = { .ecn = tos & 3 };
    uint8_t copy[2048];
    if (n == 0 || n > 65535)
        return;
    if (p[0] == HEARD) {
        recv_answer(s, p, n);
        return;
    }
    if (s->closing) {
        heard_bye(s, p, n);
        return;
    }
    if (p[0] & 0x80) { /* a long header: only during the handshake */
        if (n > sizeof(copy))
            return;
        memcpy(copy, p, n);
        if (n < 5 || tw_get_u32(copy + 1) != SECURE_VERSION_ON_WIRE) {
            s->dropped++;
            return;
        }
        secure_set_version(copy, n, NGTCP2_PROTO_VER_V1);
        p = copy;
    }
    if (!s->conn && (!s->cfg.server || !accept_first(s, p, n))) {
        s->dropped++;
        return;
    }
    const ngtcp2_path *path = s->cfg.server ? &s->path : ngtcp2_conn_get_path(s->conn);
    int err = ngtcp2_conn_read_pkt(s->conn, path, &pi, p, n, secure_clock(s));
    if (!s->heard && s->cfg.server) {
        stop(s); /* not the peer's, who has the secret: as if it had never come */
        s->dropped++;
    } else if (err == NGTCP2_ERR_DROP_CONN || err == NGTCP2_ERR_RETRY) {
        closed(s, TW_SECURE_LOST, "the connection could not be begun", false);
    } else if (err) {
        broken(s, err);
        if (err == NGTCP2_ERR_DRAINING)
            heard_bye(s, p, n);
    }
}

void tw_secure_recv(struct tw_secure *s, tw_time now, const struct tw_datagram *in)
{
    struct tw_bytes all = in->iov[0];
    size_t step = in->segment ? in->segment : all.n;
    s->now = now;
    s->bytes_received += all.n;
    secure_path_heard(s);
    for (size_t at = 0; at < all.n && !s->closed; at += step)
        recv_one(s, all.p + at, all.n - at < step ? all.n - at : step, in->tos);
    secure_path_read(s);
}

/* It is sent again and again, as nothing else tells the peer. */
static void tick_bye(struct tw_secure *s)
{
    if (s->now >= s->bye_until) {
        s->closed = true;
    } else if (s->now >= s->bye_at) {
        s->bye_due = true;
        s->bye_at = s->now + s->bye_wait;
        s->bye_wait *= 2;
    }
}

void tw_secure_tick(struct tw_secure *s, tw_time now)
{
    s->now = now;
    if (!s->conn || s->closed)
        return;
    if (s->closing) {
        tick_bye(s);
        return;
    }
    secure_path_tick(s);
    if (ngtcp2_conn_get_expiry(s->conn) > secure_clock(s))
        return;
    int err = ngtcp2_conn_handle_expiry(s->conn, secure_clock(s));
    if (err == NGTCP2_ERR_IDLE_CLOSE)
        closed(s, TW_SECURE_LOST, "nothing was heard for too long", false);
    else if (err)
        broken(s, err);
}

tw_time tw_secure_deadline(const struct tw_secure *s)
{
    if (!s->conn || s->closed)
        return TW_NEVER;
    if (s->closing)
        return tw_time_min(s->bye_at, s->bye_until);
    ngtcp2_tstamp at = ngtcp2_conn_get_expiry(s->conn);
    return tw_time_min(at > (ngtcp2_tstamp)TW_NEVER ? TW_NEVER : (tw_time)at - s->ahead, secure_path_deadline(s));
}

/* --- out ------------------------------------------------------------------------------------------ */

/* One packet into p. 0: nothing to send. */
static ngtcp2_ssize write_packet(struct tw_secure *s, uint8_t *p, size_t cap, ngtcp2_pkt_info *pi)
{
    ngtcp2_path_storage ps;
    ngtcp2_tstamp ts = secure_clock(s);
    bool open = s->completed; /* a server says nothing before it has judged the client's key */
    ngtcp2_path_storage_zero(&ps);
    while (open && s->out.head) {
        struct datagram *d = s->out.head;
        ngtcp2_vec v = { d->b, d->n };
        int accepted = 0;
        ngtcp2_ssize n = ngtcp2_conn_writev_datagram(s->conn, &ps.path, pi, p, cap, &accepted,
                                                     NGTCP2_WRITE_DATAGRAM_FLAG_MORE, 0, &v, d->n > 0, ts); /* an empty piece is none */
        if (accepted || n == NGTCP2_ERR_INVALID_STATE || n == NGTCP2_ERR_INVALID_ARGUMENT)
            free(queue_get(&s->out));
        if (n != NGTCP2_ERR_WRITE_MORE && n != NGTCP2_ERR_INVALID_STATE && n != NGTCP2_ERR_INVALID_ARGUMENT)
            return n;
    }
    for (;;) {
        struct stream *t = open ? secure_stream_next(s) : NULL;
        struct tw_bytes views[8];
        ngtcp2_ssize taken = -1;
        if (!t)
            return ngtcp2_conn_writev_stream(s->conn, &ps.path, pi, p, cap, NULL, 0, -1, NULL, 0, ts);
        size_t n_views = buf_views(&t->tx, t->sent, views, 8);
        size_t there = 0;
        for (size_t i = 0; i < n_views; i++)
            there += views[i].n;
        uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_MORE;
        if (t->fin && t->sent + there == t->tx.n)
            flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
        /* struct tw_bytes and ngtcp2_vec are laid out alike but for const. */
        ngtcp2_vec v[8];
        for (size_t i = 0; i < n_views; i++)
            v[i] = (ngtcp2_vec){ (uint8_t *)views[i].p, views[i].n };
        ngtcp2_ssize n = ngtcp2_conn_writev_stream(s->conn, &ps.path, pi, p, cap, &taken, flags, t->id, v,
                                                   n_views, ts);
        if (taken >= 0) {
            t->sent += (size_t)taken;
            t->fin_sent = t->fin_sent || ((flags & NGTCP2_WRITE_STREAM_FLAG_FIN) && t->sent == t->tx.n);
        }
        if (n == NGTCP2_ERR_STREAM_DATA_BLOCKED)
            t->blocked = true;
        else if (n == NGTCP2_ERR_STREAM_SHUT_WR || n == NGTCP2_ERR_STREAM_NOT_FOUND)
            t->fin = t->fin_sent = true, t->sent = t->tx.n;
        else
            secure_stream_sendable(s, t);
        if (n != NGTCP2_ERR_WRITE_MORE && n != NGTCP2_ERR_STREAM_DATA_BLOCKED &&
            n != NGTCP2_ERR_STREAM_SHUT_WR && n != NGTCP2_ERR_STREAM_NOT_FOUND)
            return n;
    }
}

static bool show(struct tw_secure *s, struct tw_datagram *out, size_t n, size_t segment, uint8_t ecn)
{
    s->bytes_sent += n;
    s->iov = tw_bytes(s->cfg.tx_buf, n);
    *out = (struct tw_datagram){ .iov = &s->iov, .iov_n = 1, .tos = ecn & 3 };
    if (segment && n > segment)
        out->segment = (uint16_t)segment;
    return true;
}

static bool send_bye(struct tw_secure *s, struct tw_datagram *out)
{
    s->bye_due = false;
    memcpy(s->cfg.tx_buf, s->bye->b, s->bye->n);
    return show(s, out, s->bye->n, 0, 0);
}

static bool send_answer(struct tw_secure *s, struct tw_datagram *out)
{
    s->answer_due = false;
    s->cfg.tx_buf[0] = HEARD;
    memcpy(s->cfg.tx_buf + 1, s->heard_bye, HEARD_OF);
    return show(s, out, 1 + HEARD_OF, 0, 0);
}

bool tw_secure_poll_tx(struct tw_secure *s, struct tw_datagram *out)
{
    if (s->answer_due)
        return send_answer(s, out);
    if (s->bye_due)
        return send_bye(s, out);
    if (!s->conn || s->closed || s->closing)
        return false;
    size_t quantum = ngtcp2_conn_get_send_quantum(s->conn), n = 0, first = 0;
    uint8_t ecn = 0;
    if (quantum > TW_SECURE_BATCH)
        quantum = TW_SECURE_BATCH;
    while (n == 0 || n + s->mtu <= quantum) {
        ngtcp2_pkt_info pi = { 0 };
        uint8_t *p = s->cfg.tx_buf + n;
        ngtcp2_ssize len = write_packet(s, p, s->mtu, &pi);
        if (len < 0) {
            broken(s, (int)len);
            return n ? show(s, out, n, first, ecn) : tw_secure_poll_tx(s, out);
        }
        if (len == 0)
            break;
        if (!s->confirmed)
            secure_set_version(p, (size_t)len, SECURE_VERSION_ON_WIRE);
        if (n == 0)
            ecn = pi.ecn;
        first = first ? first : (size_t)len;
        n += (size_t)len;
        if ((size_t)len != first || (size_t)len < s->mtu || pi.ecn != ecn || !s->confirmed)
            break; /* shorter: the last of its run */
    }
    ngtcp2_conn_update_pkt_tx_time(s->conn, secure_clock(s));
    secure_path_sent(s);
    return n && show(s, out, n, first, ecn);
}

bool tw_secure_poll_event(struct tw_secure *s, struct tw_secure_event *ev)
{
    *ev = (struct tw_secure_event){ 0 };
    free(s->shown);
    s->shown = NULL;
    if (s->completed && !s->completed_told) {
        s->completed_told = true;
        ev->type = TW_SECURE_READY;
        return true;
    }
    if (s->confirmed && !s->confirmed_told) {
        s->confirmed_told = true;
        ev->type = TW_SECURE_CONNECTED;
        return true;
    }
    if (secure_stream_event(s, ev))
        return true;
    s->shown = queue_get(&s->in);
    if (s->shown) {
        ev->type = TW_SECURE_DATAGRAM;
        ev->data = tw_bytes(s->shown->b, s->shown->n);
        return true;
    }
    if (s->closed && !s->closed_told) {
        s->closed_told = true;
        *ev = (struct tw_secure_event){ .type = TW_SECURE_CLOSED, .code = s->code, .reason = s->reason,
                                        .by_peer = s->by_peer };
        return true;
    }
    return false;
}

/* --- verbs ---------------------------------------------------------------------------------------- */

void tw_secure_set_mtu(struct tw_secure *s, tw_time now, size_t mtu)
{
    s->now = now;
    s->mtu = mtu < TW_SECURE_MTU_MIN ? TW_SECURE_MTU_MIN : mtu > TW_SECURE_MTU_MAX ? TW_SECURE_MTU_MAX : mtu;
}

int tw_secure_open(struct tw_secure *s, tw_time now, int64_t *ret_stream)
{
    int64_t id;
    s->now = now;
    if (!s->conn || s->closed || s->closing)
        return TW_ESTATE;
    int err = ngtcp2_conn_open_bidi_stream(s->conn, &id, NULL);
    if (err)
        return err == NGTCP2_ERR_STREAM_ID_BLOCKED ? TW_EFULL : TW_ENOMEM;
    if (!secure_stream_add(s, id))
        return TW_ENOMEM;
    *ret_stream = id;
    return 0;
}

int tw_secure_send_datagram(struct tw_secure *s, tw_time now, struct tw_bytes data)
{
    s->now = now;
    if (data.n > TW_SECURE_DATAGRAM_MAX)
        return TW_EINVAL;
    if (s->closed || s->closing)
        return TW_ESTATE;
    return s->out.n >= DATAGRAMS_MAX ? TW_EFULL : queue_put(&s->out, data);
}

static tw_time clamp(tw_time t, tw_time min, tw_time max)
{
    return t < min ? min : tw_time_min(t, max);
}

void tw_secure_close(struct tw_secure *s, tw_time now, uint64_t code, const char *reason)
{
    ngtcp2_ccerr why;
    s->now = now;
    if (s->closed || s->closing)
        return;
    s->closing = true;
    s->code = code;
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
    if (s->conn) {
        ngtcp2_ccerr_default(&why);
        ngtcp2_ccerr_set_application_error(&why, s->code, (const uint8_t *)s->reason, strlen(s->reason));
        make_bye(s, &why);
    }
    if (!s->bye || !s->completed) { /* there is nobody to tell, or who would wait for long */
        s->closed = true;
        return;
    }
    tw_time pto = (tw_time)ngtcp2_conn_get_pto(s->conn);
    s->bye_until = now + clamp(3 * pto, BYE_WITHIN_MIN, BYE_WITHIN_MAX); /* RFC 9000 §10.2 */
    s->bye_wait = clamp(pto, BYE_WAIT_MIN, BYE_WAIT_MAX);
    s->bye_at = now + s->bye_wait;
}

tw_time tw_secure_acked_at(const struct tw_secure *s)
{
    return s->acked_at;
}

void tw_secure_stats(const struct tw_secure *s, struct tw_secure_stats *ret)
{
    ngtcp2_conn_info info;
    *ret = (struct tw_secure_stats){ .dropped = s->dropped, .sent = s->bytes_sent,
                                     .received = s->bytes_received, .datagrams_acked = s->datagrams_acked,
                                     .datagrams_lost = s->datagrams_lost };
    if (!s->conn)
        return;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    ret->rtt = (tw_time)info.smoothed_rtt;
    ret->min_rtt = info.min_rtt == UINT64_MAX ? 0 : (tw_time)info.min_rtt;
    ret->jitter = (tw_time)info.rttvar;
    ret->window = info.cwnd;
}
