#include <stdlib.h>

#include "secure/internal.h"

/* At most STREAMS_MAX of each side's. */
static uint32_t hash_of(int64_t id)
{
    return tw_map_hash_number((uint32_t)id);
}

static bool has_id(const void *item, const void *key)
{
    return ((const struct stream *)item)->id == *(const int64_t *)key;
}

struct stream *secure_stream_find(struct tw_secure *s, int64_t id)
{
    return tw_map_get(&s->streams, hash_of(id), has_id, &id);
}

struct stream *secure_stream_add(struct tw_secure *s, int64_t id)
{
    struct stream *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->id = id;
    if (tw_map_put(&s->streams, hash_of(id), t)) {
        free(t);
        return NULL;
    }
    ngtcp2_conn_set_stream_user_data(s->conn, id, t);
    return t;
}

static void forget(struct tw_secure *s, struct stream *t)
{
    for (struct stream **at = &s->send; *at; at = &(*at)->next_send)
        if (*at == t) {
            *at = t->next_send;
            if (s->send_tail == &t->next_send)
                s->send_tail = at;
            break;
        }
    tw_map_del(&s->streams, hash_of(t->id), t);
    buf_free(&t->rx);
    buf_free(&t->tx);
    free(t);
}

void secure_streams_free(struct tw_secure *s)
{
    for (uint32_t i = 0; s->streams.slots && i <= s->streams.mask; i++) {
        struct stream *t = s->streams.slots[i].item;
        if (t) {
            buf_free(&t->rx);
            buf_free(&t->tx);
            free(t);
        }
    }
    tw_map_fini(&s->streams);
}

void secure_stream_ready(struct tw_secure *s, struct stream *t)
{
    if (t->ready)
        return;
    t->ready = true;
    t->next_ready = NULL;
    *s->ready_tail = t;
    s->ready_tail = &t->next_ready;
}

void secure_stream_sendable(struct tw_secure *s, struct stream *t)
{
    if (t->sending || t->dead || t->blocked || (t->sent == t->tx.n && (!t->fin || t->fin_sent)))
        return;
    t->sending = true;
    t->next_send = NULL;
    *s->send_tail = t;
    s->send_tail = &t->next_send;
}

struct stream *secure_stream_next(struct tw_secure *s)
{
    struct stream *t = s->send;
    if (!t)
        return NULL;
    s->send = t->next_send;
    if (!s->send)
        s->send_tail = &s->send;
    t->sending = false;
    return t;
}

bool secure_stream_event(struct tw_secure *s, struct tw_secure_event *ev)
{
    while (s->ready) {
        struct stream *t = s->ready;
        *ev = (struct tw_secure_event){ .stream = t->id, .code = t->code };
        if (t->fresh) {
            t->fresh = false;
            ev->type = TW_SECURE_STREAM;
            return true;
        }
        if (t->readable) {
            t->readable = false;
            ev->type = TW_SECURE_READABLE;
            return true;
        }
        if (t->writable) {
            t->writable = false;
            ev->type = TW_SECURE_WRITABLE;
            return true;
        }
        s->ready = t->next_ready;
        if (!s->ready)
            s->ready_tail = &s->ready;
        t->ready = false;
        /* What has come is read first. */
        if (t->dead && (t->code || (t->rx.n == 0 && (!t->rx_end || t->rx_end_told)))) {
            forget(s, t);
            ev->type = TW_SECURE_ENDED;
            return true;
        }
    }
    return false;
}

/* --- what QUIC tells ------------------------------------------------------------------------------ */

int secure_on_stream_data(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t offset,
                          const uint8_t *data, size_t n, void *user, void *stream_user)
{
    struct tw_secure *s = user;
    struct stream *t = stream_user;
    (void)conn, (void)offset, (void)id;
    if (!t)
        return 0;
    if (n && buf_put(&t->rx, tw_bytes(data, n)))
        return NGTCP2_ERR_CALLBACK_FAILURE;
    if (flags & NGTCP2_STREAM_DATA_FLAG_FIN)
        t->rx_end = true;
    t->readable = true;
    secure_stream_ready(s, t);
    return 0;
}

int secure_on_acked(ngtcp2_conn *conn, int64_t id, uint64_t offset, uint64_t n, void *user,
                    void *stream_user)
{
    struct tw_secure *s = user;
    struct stream *t = stream_user;
    (void)conn, (void)id, (void)offset;
    secure_acked(s);
    if (!t)
        return 0;
    buf_drop(&t->tx, n);
    t->sent -= n;
    if (t->full && t->tx.n <= SEND_MAX / 2) {
        t->full = false;
        t->writable = true;
        secure_stream_ready(s, t);
    }
    return 0;
}

int secure_on_stream_close(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream_user)
{
    struct tw_secure *s = user;
    struct stream *t = stream_user;
    if (!ngtcp2_conn_is_local_stream(conn, id))
        ngtcp2_conn_extend_max_streams_bidi(conn, 1);
    if (!t)
        return 0;
    t->dead = true;
    if (flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET && code)
        t->code = code;
    secure_stream_ready(s, t);
    return 0;
}

int secure_on_stream_reset(ngtcp2_conn *conn, int64_t id, uint64_t final_size, uint64_t code, void *user,
                           void *stream_user)
{
    struct tw_secure *s = user;
    struct stream *t = stream_user;
    (void)final_size;
    ngtcp2_conn_shutdown_stream(conn, 0, id, code);
    if (t) {
        t->code = code ? code : TW_SECURE_LOST;
        secure_stream_ready(s, t);
    }
    return 0;
}

int secure_on_stop_sending(ngtcp2_conn *conn, int64_t id, uint64_t code, void *user, void *stream_user)
{
    (void)user, (void)stream_user;
    ngtcp2_conn_shutdown_stream(conn, 0, id, code);
    return 0;
}

int secure_on_more_stream_data(ngtcp2_conn *conn, int64_t id, uint64_t max, void *user,
                               void *stream_user)
{
    struct stream *t = stream_user;
    (void)conn, (void)id, (void)max;
    if (t) {
        t->blocked = false;
        secure_stream_sendable(user, t);
    }
    return 0;
}

/* --- verbs ---------------------------------------------------------------------------------------- */

int tw_secure_write(struct tw_secure *s, tw_time now, int64_t id, struct tw_bytes data, bool fin,
                    size_t *ret_n)
{
    struct stream *t = secure_stream_find(s, id);
    s->now = now;
    if (!t || t->dead)
        return TW_ENOTFOUND;
    if (t->fin)
        return TW_ESTATE;
    size_t room = SEND_MAX > t->tx.n ? SEND_MAX - t->tx.n : 0;
    size_t n = data.n < room ? data.n : room;
    if (n && buf_put(&t->tx, tw_bytes(data.p, n)))
        return TW_ENOMEM;
    t->full = n < data.n;
    t->fin = fin && n == data.n;
    *ret_n = n;
    secure_stream_sendable(s, t);
    return 0;
}

int tw_secure_peek(struct tw_secure *s, int64_t id, struct tw_bytes *ret_data, bool *ret_end)
{
    struct stream *t = secure_stream_find(s, id);
    if (!t)
        return TW_ENOTFOUND;
    *ret_data = tw_bytes(NULL, 0);
    buf_views(&t->rx, 0, ret_data, 1);
    *ret_end = t->rx_end && ret_data->n == t->rx.n;
    if (*ret_end && t->rx.n == 0 && !t->rx_end_told) {
        t->rx_end_told = true;
        if (t->dead)
            secure_stream_ready(s, t);
    }
    return 0;
}

void tw_secure_take(struct tw_secure *s, tw_time now, int64_t id, size_t n)
{
    struct stream *t = secure_stream_find(s, id);
    s->now = now;
    if (!t || n > t->rx.n)
        return;
    buf_drop(&t->rx, n);
    if (!t->dead)
        ngtcp2_conn_extend_max_stream_offset(s->conn, id, n);
    ngtcp2_conn_extend_max_offset(s->conn, n);
    if (t->rx.n == 0 && t->rx_end)
        t->rx_end_told = true;
    if (t->dead)
        secure_stream_ready(s, t);
}

void tw_secure_reset(struct tw_secure *s, tw_time now, int64_t id, uint64_t code)
{
    s->now = now;
    if (s->conn && secure_stream_find(s, id))
        ngtcp2_conn_shutdown_stream(s->conn, 0, id, code);
}
