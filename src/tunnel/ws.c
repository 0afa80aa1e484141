#include "tunnel/ws.h"

#include <gnutls/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <wslay/wslay.h>

#include "tunnel/http.h"

enum { HEAD_MAX = 8192, ACCEPT_LEN = 28, KEY_LEN = 24, BASE64_MAX = (TW_WS_EARLY_MAX + 2) / 3 * 4 };
static const char early_cookie[] = "early=";

struct message {
    struct message *next;
    size_t n;
    uint8_t b[];
};

struct grow {
    uint8_t *p;
    size_t n, cap;
};

struct tw_ws {
    struct tw_ws_config cfg;
    struct tw_env env;
    char host[300], token[200], path[200]; /* path: that is or was asked for */
    char key[KEY_LEN + 1];     /* what was asked with */
    enum { IDLE, HEAD, ASKED, OPEN, CLOSED } state; /* IDLE: of a client, it has not asked yet */
    bool refused, asked_told, open_told, closed_told;
    const char *why;
    struct grow early;         /* messages with their lengths, for the request */
    uint8_t early_n;           /* how many were in the request that came */
    struct grow head, out, shown; /* shown: out, while the caller looks at it */
    struct tw_bytes in;        /* what wslay has not read */
    wslay_event_context_ptr frames;
    struct message *first, **last, *told;
};

static bool append(struct grow *g, const void *p, size_t n)
{
    if (g->cap - g->n < n) {
        size_t cap = g->cap ? g->cap : 1024;
        while (cap - g->n < n)
            cap *= 2;
        uint8_t *more = realloc(g->p, cap);
        if (!more)
            return false;
        g->p = more;
        g->cap = cap;
    }
    if (n)
        memcpy(g->p + g->n, p, n);
    g->n += n;
    return true;
}

static void end(struct tw_ws *w, const char *why)
{
    if (w->state == CLOSED)
        return;
    w->state = CLOSED;
    w->why = why;
}

/* --- wslay's side --------------------------------------------------------------------------------- */

static ssize_t on_read(wslay_event_context_ptr ctx, uint8_t *to, size_t cap, int flags, void *user)
{
    struct tw_ws *w = user;
    size_t n = w->in.n < cap ? w->in.n : cap;
    (void)flags;
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(to, w->in.p, n);
    w->in = tw_bytes(w->in.p + n, w->in.n - n);
    return (ssize_t)n;
}

static ssize_t on_write(wslay_event_context_ptr ctx, const uint8_t *p, size_t n, int flags, void *user)
{
    (void)flags;
    if (!append(&((struct tw_ws *)user)->out, p, n)) {
        wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)n;
}

static int on_mask(wslay_event_context_ptr ctx, uint8_t *out, size_t n, void *user)
{
    struct tw_ws *w = user;
    (void)ctx;
    w->env.rng.fill(w->env.rng.ctx, out, n);
    return 0;
}

static void keep_message(struct tw_ws *w, struct tw_bytes b)
{
    struct message *m = malloc(sizeof(*m) + b.n);
    if (!m) {
        end(w, "out of memory");
        return;
    }
    *m = (struct message){ .n = b.n };
    if (b.n)
        memcpy(m->b, b.p, b.n);
    *w->last = m;
    w->last = &m->next;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *user)
{
    struct tw_ws *w = user;
    (void)ctx;
    if (wslay_is_ctrl_frame(arg->opcode)) {
        if (arg->opcode == WSLAY_CONNECTION_CLOSE)
            end(w, "the other side closed the connection");
        return;
    }
    keep_message(w, tw_bytes(arg->msg, arg->msg_length));
}

static const struct wslay_event_callbacks on = {
    .recv_callback = on_read, .send_callback = on_write, .genmask_callback = on_mask,
    .on_msg_recv_callback = on_message,
};

static void flush(struct tw_ws *w)
{
    if (w->frames && wslay_event_send(w->frames) != 0)
        end(w, "out of memory");
}

static void begin_frames(struct tw_ws *w)
{
    int rc = w->cfg.server ? wslay_event_context_server_init(&w->frames, &on, w)
                           : wslay_event_context_client_init(&w->frames, &on, w);
    if (rc) {
        end(w, "out of memory");
        return;
    }
    wslay_event_config_set_max_recv_msg_length(w->frames, w->cfg.max_message);
    w->state = OPEN;
}

/* --- opening -------------------------------------------------------------------------------------- */

/* RFC 6455 §4.2.2: what proves that the server means WebSocket. */
static void accept_key(const char *key, size_t n, char out[ACCEPT_LEN + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t sha[20];
    char both[64 + sizeof(guid)];
    int len = snprintf(both, sizeof(both), "%.*s%s", (int)(n < 64 ? n : 64), key, guid);
    gnutls_hash_fast(GNUTLS_DIG_SHA1, both, (size_t)len, sha);
    sodium_bin2base64(out, ACCEPT_LEN + 1, sha, sizeof(sha), sodium_base64_VARIANT_ORIGINAL);
}

static void say(struct tw_ws *w, const char *text)
{
    if (!append(&w->out, text, strlen(text)))
        end(w, "out of memory");
}

static void ask(struct tw_ws *w)
{
    uint8_t key[16];
    char text[1024], cookie[BASE64_MAX + 1];
    w->env.rng.fill(w->env.rng.ctx, key, sizeof(key));
    sodium_bin2base64(w->key, sizeof(w->key), key, sizeof(key), sodium_base64_VARIANT_ORIGINAL);
    snprintf(text, sizeof(text),
             "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n%s%s%s",
             w->path, w->host, w->key, w->cfg.protocol, w->token[0] ? "Authorization: Bearer " : "",
             w->token, w->token[0] ? "\r\n" : "");
    w->state = HEAD;
    say(w, text);
    if (w->early.n) {
        sodium_bin2base64(cookie, sizeof(cookie), w->early.p, w->early.n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        say(w, "Cookie: ");
        say(w, early_cookie);
        say(w, cookie);
        say(w, "\r\n");
    }
    say(w, "\r\n");
}

/* The messages that came in the request. What is wrong with them shows as too few. */
static void read_early(struct tw_ws *w, const struct tw_http *h)
{
    uint8_t bytes[TW_WS_EARLY_MAX];
    size_t n, name = sizeof(early_cookie) - 1;
    struct tw_bytes text = tw_http_get(h, "cookie");
    if (!w->cfg.early || text.n <= name || memcmp(text.p, early_cookie, name) != 0 ||
        sodium_base642bin(bytes, sizeof(bytes), (const char *)text.p + name, text.n - name, NULL, &n, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING))
        return;
    struct tw_rd r = tw_rd(tw_bytes(bytes, n));
    while (r.n && w->early_n < UINT8_MAX) {
        struct tw_bytes one = tw_rd_bytes(&r, tw_rd_u16(&r));
        if (r.error || one.n > w->cfg.max_message)
            break;
        keep_message(w, one);
        w->early_n++;
    }
}

static void refuse(struct tw_ws *w, const char *status, const char *text)
{
    char all[400];
    snprintf(all, sizeof(all),
             "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
             status, strlen(text), text);
    say(w, all);
    end(w, "that was no WebSocket request for us");
}

static void show_page(struct tw_ws *w)
{
    char head[200];
    snprintf(head, sizeof(head),
             "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
             strlen(w->cfg.page));
    say(w, head);
    say(w, w->cfg.page);
    end(w, "a browser");
}

static void accept_it(struct tw_ws *w)
{
    char accept[ACCEPT_LEN + 1], text[512];
    accept_key(w->key, strlen(w->key), accept);
    snprintf(text, sizeof(text),
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
             accept, w->cfg.protocol);
    say(w, text);
    begin_frames(w);
}

static void answer(struct tw_ws *w, const struct tw_http *h)
{
    struct tw_bytes key = tw_http_get(h, "sec-websocket-key");
    if (!tw_bytes_eq(h->method, tw_bytes_str("GET"))) {
        refuse(w, "405 Method Not Allowed", "405\n");
    } else if (w->cfg.page && tw_bytes_eq(h->target, tw_bytes_str("/"))) {
        show_page(w);
    } else if (w->cfg.path ? !tw_bytes_eq(h->target, tw_bytes_str(w->cfg.path)) : h->target.n >= sizeof(w->path)) {
        refuse(w, "404 Not Found", "There is nothing here.\n");
    } else if (!tw_http_has(h, "upgrade", "websocket") || !tw_http_has(h, "connection", "upgrade") ||
               !tw_http_has(h, "sec-websocket-version", "13") || key.n != KEY_LEN ||
               !tw_http_has(h, "sec-websocket-protocol", w->cfg.protocol)) {
        refuse(w, "426 Upgrade Required", "This is for programs: it speaks WebSocket.\n");
    } else {
        struct tw_bytes bearer = tw_http_get(h, "authorization");
        if (bearer.n > 7 && bearer.n - 7 < sizeof(w->token) && memcmp(bearer.p, "Bearer ", 7) == 0) {
            memcpy(w->token, bearer.p + 7, bearer.n - 7);
            w->token[bearer.n - 7] = 0;
        }
        memcpy(w->key, key.p, KEY_LEN);
        read_early(w, h);
        if (w->cfg.path) {
            accept_it(w);
            return;
        }
        memcpy(w->path, h->target.p, h->target.n);
        w->path[h->target.n] = 0;
        w->state = ASKED;
    }
}

void tw_ws_answer(struct tw_ws *w, bool yes)
{
    if (w->state != ASKED)
        return;
    if (yes)
        accept_it(w);
    else
        refuse(w, "404 Not Found", "There is nothing here.\n");
}

/* RFC 6585 §6, and what portals did before that: they send everybody elsewhere. */
static bool is_portal(struct tw_bytes status)
{
    return tw_bytes_eq(status, tw_bytes_str("511")) ||
           (status.p[0] == '3' && status.p[1] == '0' && status.p[2] != '4' && status.p[2] != '0');
}

static void check_answer(struct tw_ws *w, const struct tw_http *h)
{
    char accept[ACCEPT_LEN + 1];
    accept_key(w->key, strlen(w->key), accept);
    if (tw_bytes_eq(h->status, tw_bytes_str("401")) || tw_bytes_eq(h->status, tw_bytes_str("403")))
        end(w, "the server wants a token (--token)");
    else if (tw_bytes_eq(h->status, tw_bytes_str("429")) || tw_bytes_eq(h->status, tw_bytes_str("503")))
        end(w, "the server is busy");
    else if (is_portal(h->status))
        end(w, "this network wants you to log in first (a captive portal): open any page in a browser");
    else if (!tw_bytes_eq(h->status, tw_bytes_str("101"))) {
        w->refused = true;
        end(w, "a web server answered that is no rendezvous, or something on the way lets no WebSocket through");
    }
    else if (!tw_http_has(h, "upgrade", "websocket") ||
             !tw_bytes_eq(tw_http_get(h, "sec-websocket-accept"), tw_bytes_str(accept)) ||
             !tw_http_has(h, "sec-websocket-protocol", w->cfg.protocol))
        end(w, "the server's answer to the upgrade is wrong");
    else
        begin_frames(w);
}

/* Takes the head, as soon as it is whole; what comes behind it is w->in. */
static void read_head(struct tw_ws *w, struct tw_bytes in)
{
    struct tw_http h;
    size_t before = w->head.n, used;
    size_t take = in.n < HEAD_MAX - before ? in.n : HEAD_MAX - before;
    if (!append(&w->head, in.p, take)) {
        end(w, "out of memory");
        return;
    }
    int err = tw_http_parse(tw_bytes(w->head.p, w->head.n), w->cfg.server, &h, &used);
    if (err == TW_ESHORT && w->head.n < HEAD_MAX)
        return;
    if (err && w->cfg.server)
        refuse(w, "400 Bad Request", "400\n");
    else if (err)
        end(w, "what answered is no web server");
    else if (w->cfg.server)
        answer(w, &h);
    else
        check_answer(w, &h);
    if (!err)
        w->in = tw_bytes(in.p + (used - before), in.n - (used - before));
    free(w->head.p);
    w->head = (struct grow){ 0 };
}

/* --- the machine ---------------------------------------------------------------------------------- */

int tw_ws_new(const struct tw_ws_config *cfg, const struct tw_env *env, struct tw_ws **ret_ws)
{
    struct tw_ws *w = calloc(1, sizeof(*w));
    if (!w)
        return TW_ENOMEM;
    w->cfg = *cfg;
    w->env = *env;
    w->last = &w->first;
    snprintf(w->path, sizeof(w->path), "%s", cfg->path ? cfg->path : "");
    snprintf(w->host, sizeof(w->host), "%s", cfg->host ? cfg->host : "");
    snprintf(w->token, sizeof(w->token), "%s", cfg->token ? cfg->token : "");
    w->state = cfg->server ? HEAD : IDLE;
    *ret_ws = w;
    return 0;
}

void tw_ws_free(struct tw_ws *w)
{
    if (!w)
        return;
    if (w->frames)
        wslay_event_context_free(w->frames);
    while (w->first) {
        struct message *m = w->first;
        w->first = m->next;
        free(m);
    }
    free(w->told);
    free(w->early.p);
    free(w->head.p);
    free(w->out.p);
    free(w->shown.p);
    free(w);
}

void tw_ws_recv(struct tw_ws *w, struct tw_bytes in)
{
    if (w->state == IDLE)
        ask(w);
    w->in = in;
    if (w->state == HEAD) {
        w->in.n = 0;
        read_head(w, in);
    }
    if (w->state == OPEN && w->in.n) {
        if (wslay_event_recv(w->frames) != 0)
            end(w, "the other side broke WebSocket's rules");
        else if (wslay_event_get_close_sent(w->frames))
            end(w, "the other side sent what is not allowed");
        flush(w);
    }
    w->in = tw_bytes(NULL, 0);
}

static int put_early(struct tw_ws *w, const struct tw_bytes *parts, size_t n, size_t len)
{
    uint8_t head[2];
    if (!w->cfg.early)
        return TW_ESTATE;
    if (w->early.n + sizeof(head) + len > TW_WS_EARLY_MAX)
        return TW_EFULL;
    tw_put_u16(head, (uint16_t)len);
    bool ok = append(&w->early, head, sizeof(head));
    for (size_t i = 0; i < n; i++)
        ok = ok && (parts[i].n == 0 || append(&w->early, parts[i].p, parts[i].n));
    return ok ? 0 : TW_ENOMEM;
}

int tw_ws_send(struct tw_ws *w, const struct tw_bytes *parts, size_t n)
{
    uint8_t small[2048], *p = small;
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += parts[i].n;
    if (w->state == IDLE)
        return put_early(w, parts, n, len);
    if (w->state != OPEN)
        return TW_ESTATE;
    if (len > sizeof(small) && !(p = malloc(len)))
        return TW_ENOMEM;
    len = 0;
    for (size_t i = 0; i < n; i++) {
        if (parts[i].n)
            memcpy(p + len, parts[i].p, parts[i].n);
        len += parts[i].n;
    }
    struct wslay_event_msg m = { WSLAY_BINARY_FRAME, p, len };
    int err = wslay_event_queue_msg(w->frames, &m) ? TW_ENOMEM : 0;
    if (p != small)
        free(p);
    flush(w);
    return err;
}

int tw_ws_send_stream(struct tw_ws *w, const struct tw_bytes *parts, size_t n, size_t max)
{
    size_t len = 0;
    int err = 0;
    for (size_t i = 0; i < n; i++)
        len += parts[i].n;
    if (len <= max)
        return tw_ws_send(w, parts, n);
    for (size_t i = 0; i < n; i++)
        for (struct tw_bytes rest = parts[i]; rest.n && !err;) {
            struct tw_bytes piece = tw_bytes(rest.p, rest.n < max ? rest.n : max);
            err = tw_ws_send(w, &piece, 1);
            rest = tw_bytes(rest.p + piece.n, rest.n - piece.n);
        }
    return err;
}

void tw_ws_early_taken(struct tw_ws *w, uint8_t n)
{
    struct grow was = w->early;
    struct tw_rd r = tw_rd(tw_bytes(was.p, was.n));
    w->early = (struct grow){ 0 };
    for (unsigned i = 0; r.n; i++) {
        const struct tw_bytes one = tw_rd_bytes(&r, tw_rd_u16(&r));
        if (i >= n)
            (void)!tw_ws_send(w, &one, 1);
    }
    free(was.p);
}

bool tw_ws_is_early(const struct tw_ws *w)
{
    return w->state == IDLE && w->cfg.early;
}

void tw_ws_close(struct tw_ws *w)
{
    if (w->state == OPEN) {
        wslay_event_queue_close(w->frames, WSLAY_CODE_GOING_AWAY, NULL, 0);
        flush(w);
    }
    end(w, "closed");
}

struct tw_bytes tw_ws_out(struct tw_ws *w)
{
    if (w->state == IDLE)
        ask(w);
    struct grow was = w->shown;
    w->shown = w->out;
    was.n = 0;
    w->out = was;
    if (w->shown.n == 0) { /* nothing: then without keeping two buffers */
        free(w->shown.p);
        w->shown = (struct grow){ 0 };
    }
    return tw_bytes(w->shown.p, w->shown.n);
}

bool tw_ws_poll_event(struct tw_ws *w, struct tw_ws_event *ev)
{
    free(w->told);
    w->told = NULL;
    if (w->state == ASKED && !w->asked_told) {
        w->asked_told = true;
        *ev = (struct tw_ws_event){ TW_WS_REQUEST, tw_bytes_str(w->path), NULL };
        return true;
    }
    if (w->frames && !w->open_told) {
        w->open_told = true;
        *ev = (struct tw_ws_event){ TW_WS_OPEN, tw_bytes_str(w->cfg.server ? w->token : ""), NULL, w->early_n };
        return true;
    }
    if (w->first) {
        w->told = w->first;
        w->first = w->told->next;
        if (!w->first)
            w->last = &w->first;
        *ev = (struct tw_ws_event){ TW_WS_MESSAGE, tw_bytes(w->told->b, w->told->n), NULL };
        return true;
    }
    if (w->state == CLOSED && !w->closed_told) {
        w->closed_told = true;
        *ev = (struct tw_ws_event){ TW_WS_CLOSED, tw_bytes(NULL, 0), w->why };
        return true;
    }
    return false;
}

bool tw_ws_was_refused(const struct tw_ws *w)
{
    return w->refused;
}

bool tw_ws_is_open(const struct tw_ws *w)
{
    return w->state == OPEN;
}
