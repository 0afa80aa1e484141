#include "rendezvous/client.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "ident/ident.h"
#include "tunnel/front.h"
#include "tunnel/ws.h"

#define PING_EVERY (25 * TW_SEC)
#define PONG_WITHIN (10 * TW_SEC)
#define HELLO_WITHIN (15 * TW_SEC)
/* In doubt: a server that is merely busy for a moment is not left. */
#define DOUBT_EVERY (3 * TW_SEC)
#define DOUBT_WITHIN (2 * TW_SEC)
#define DOUBT_FOR (30 * TW_SEC)

struct tw_rdv {
    struct tw_rdv_config cfg;
    struct tw_env env;
    tw_time now, heard, pinged, hello_at;
    tw_time doubt_until;         /* it may be dead: it is asked more often */
    tw_time asked, rtt;          /* asked: when our request was put; rtt: 0 before HELLO */
    struct tw_ws *ws;
    struct tw_rdv_hello hello;
    uint8_t hello_bytes[TW_RDV_HELLO_MAX];
    bool up, closed;
    char token[200];             /* to be proved; empty: none */
    bool has_proof, proving;     /* proving: a second HELLO is awaited */
    uint32_t early_epoch;        /* of our clock's */
    uint32_t epoch, next_epoch;  /* of the mailboxes that are ours, or asked for */
    tw_time jitter;
    uint8_t invites[TW_RDV_INVITES][TW_INVITE_SIZE];
    size_t invite_n;
    uint32_t next_call;
};

int tw_rdv_new(const struct tw_rdv_config *cfg, const struct tw_env *env, tw_time now, struct tw_rdv **ret_rdv)
{
    struct tw_rdv *r = calloc(1, sizeof(*r));
    char host[TW_SERVER_TEXT_MAX];
    uint32_t random;
    if (!r)
        return TW_ENOMEM;
    r->cfg = *cfg;
    r->env = *env;
    r->now = r->heard = r->asked = now;
    r->pinged = TW_NEVER;
    r->hello_at = now; /* as long as it is not known better */
    r->hello.unix_ms = cfg->unix_ms;
    r->early_epoch = (uint32_t)(cfg->unix_ms / TW_RDV_DAY_MS);
    env->rng.fill(env->rng.ctx, &random, sizeof(random));
    r->jitter = (tw_time)(random % 3600) * TW_SEC;
    struct tw_rdv_addr plain = cfg->server; /* what Host says: host and port */
    plain.plain = plain.pinned = false;
    plain.port = cfg->server.port == (cfg->server.plain ? 80 : 443) ? 443 : cfg->server.port;
    int err = tw_rdv_addr_format(&plain, host, sizeof(host));
    const struct tw_ws_config ws = { .path = TW_FRONT_PATH, .protocol = TW_RDV_PROTOCOL, .host = host,
                                     .token = cfg->prove ? NULL : cfg->token, .max_message = TW_RDV_MESSAGE_MAX, .early = true };
    err = err ? err : tw_ws_new(&ws, env, &r->ws);
    r->cfg.token = NULL;
    r->has_proof = cfg->prove && cfg->token;
    if (r->has_proof)
        snprintf(r->token, sizeof(r->token), "%s", cfg->token);
    if (err) {
        free(r);
        return err;
    }
    *ret_rdv = r;
    return 0;
}

void tw_rdv_free(struct tw_rdv *r)
{
    if (!r)
        return;
    tw_ws_free(r->ws);
    sodium_memzero(r->token, sizeof(r->token));
    free(r);
}

void tw_rdv_recv(struct tw_rdv *r, tw_time now, struct tw_bytes in)
{
    r->now = r->heard = now;
    if (r->pinged != TW_NEVER)
        r->rtt = (3 * r->rtt + now - r->pinged) / 4;
    r->pinged = TW_NEVER;
    tw_ws_recv(r->ws, in);
}

struct tw_bytes tw_rdv_out(struct tw_rdv *r)
{
    return tw_ws_out(r->ws);
}

bool tw_rdv_is_up(const struct tw_rdv *r)
{
    return r->up && !r->closed;
}

tw_time tw_rdv_rtt(const struct tw_rdv *r)
{
    return r->rtt;
}

bool tw_rdv_may_call(const struct tw_rdv *r)
{
    return !r->closed && (r->up || tw_ws_is_early(r->ws));
}

/* --- mailboxes ------------------------------------------------------------------------------------ */

/* The day and the hour are the server's, so that both sides that meet there agree. */
static uint64_t server_ms(const struct tw_rdv *r)
{
    return r->hello.unix_ms + (uint64_t)((r->now - r->hello_at) / TW_MSEC);
}

static uint32_t epoch_now(const struct tw_rdv *r)
{
    return (uint32_t)(server_ms(r) / TW_RDV_DAY_MS);
}

bool tw_rdv_was_other_day(const struct tw_rdv *r)
{
    return r->up && r->early_epoch != (uint32_t)(r->hello.unix_ms / TW_RDV_DAY_MS);
}

static struct tw_mailbox_of of_day(const struct tw_rdv *r, uint32_t epoch, const uint8_t *invite)
{
    return (struct tw_mailbox_of){ epoch, r->cfg.label ? r->cfg.label : r->cfg.server.host,
                                   tw_bytes(invite, invite ? TW_INVITE_SIZE : 0) };
}

static int mailbox_of(const struct tw_rdv *r, const struct tw_key *key, uint32_t epoch, const uint8_t *invite,
                      struct tw_key *ret)
{
    const struct tw_mailbox_of of = of_day(r, epoch, invite);
    return tw_mailbox_name(key, &of, ret);
}

static void ask_for(struct tw_rdv *r, uint32_t epoch, const uint8_t *invite)
{
    const struct tw_mailbox_of of = of_day(r, epoch, invite);
    uint8_t type = TW_RDV_M_REGISTER, msg[TW_RDV_SIGNED], sig[TW_SIG_SIZE], from[12];
    struct tw_key name;
    tw_rdv_signed(r->hello.challenge, msg);
    if (tw_mailbox_name(&r->cfg.self->key, &of, &name) ||
        tw_mailbox_sign(r->cfg.self, &of, tw_bytes(msg, sizeof(msg)), sig))
        return;
    tw_put_u64(from, r->cfg.program);
    tw_put_u32(from + 8, r->cfg.number);
    const struct tw_bytes parts[] = { tw_bytes(&type, 1), tw_bytes(name.b, TW_KEY_SIZE),
                                      tw_bytes(sig, TW_SIG_SIZE), tw_bytes(from, sizeof(from)) };
    (void)!tw_ws_send(r->ws, parts, 4);
}

static void ask_for_all(struct tw_rdv *r, uint32_t epoch)
{
    if (!r->cfg.unlisted)
        ask_for(r, epoch, NULL);
    for (size_t i = 0; i < r->invite_n; i++)
        ask_for(r, epoch, r->invites[i]);
}

static bool may_listen(const struct tw_rdv *r)
{
    return r->up && r->cfg.listen && r->hello.may_register;
}

void tw_rdv_invites(struct tw_rdv *r, tw_time now, const uint8_t (*secrets)[TW_INVITE_SIZE], size_t n)
{
    r->now = now;
    for (size_t i = 0; i < n && may_listen(r) && r->epoch; i++) {
        bool had = false;
        for (size_t k = 0; k < r->invite_n; k++)
            had = had || memcmp(r->invites[k], secrets[i], TW_INVITE_SIZE) == 0;
        if (had)
            continue;
        ask_for(r, r->epoch, secrets[i]);
        if (r->next_epoch > r->epoch)
            ask_for(r, r->next_epoch, secrets[i]);
    }
    memcpy(r->invites, secrets, n * TW_INVITE_SIZE);
    r->invite_n = n;
}

/* Today's mailboxes, and, close to the day's end, tomorrow's; yesterday's stay ours while the connection does. */
static void keep_mailboxes(struct tw_rdv *r)
{
    if (!may_listen(r))
        return;
    uint32_t today = epoch_now(r);
    if (r->epoch != today) {
        if (r->next_epoch != today)
            ask_for_all(r, today);
        r->epoch = today;
    }
    uint64_t left = TW_RDV_DAY_MS - server_ms(r) % TW_RDV_DAY_MS;
    if (left + (uint64_t)(r->jitter / TW_MSEC) <= TW_RDV_NEIGHBOUR_MS && r->next_epoch != today + 1) {
        r->next_epoch = today + 1;
        ask_for_all(r, r->next_epoch);
    }
}

static tw_time next_mailbox(const struct tw_rdv *r)
{
    if (!may_listen(r))
        return TW_NEVER;
    uint64_t left = TW_RDV_DAY_MS - server_ms(r) % TW_RDV_DAY_MS, early = TW_RDV_NEIGHBOUR_MS - (uint64_t)(r->jitter / TW_MSEC);
    uint64_t wait = r->next_epoch == r->epoch + 1 || left < early ? left : left - early;
    return r->now + (tw_time)(wait + 1) * TW_MSEC;
}

/* --- messages ------------------------------------------------------------------------------------- */

static int send_call(struct tw_rdv *r, uint8_t type, uint32_t call, struct tw_bytes a, struct tw_bytes b)
{
    uint8_t head[5] = { type };
    tw_put_u32(head + 1, call);
    const struct tw_bytes parts[] = { tw_bytes(head, sizeof(head)), a, b };
    return r->closed ? TW_ESTATE : tw_ws_send(r->ws, parts, 3);
}

int tw_rdv_call(struct tw_rdv *r, tw_time now, const struct tw_key *callee, const uint8_t *invite,
                struct tw_bytes offer, uint32_t *ret_call)
{
    struct tw_key name;
    r->now = now;
    if (offer.n > TW_RDV_BODY_MAX)
        return TW_EINVAL;
    int err = mailbox_of(r, callee, epoch_now(r), invite, &name);
    if (err)
        return err;
    r->next_call = (r->next_call + 1) & ~TW_RDV_CALLEE;
    *ret_call = r->next_call;
    return send_call(r, TW_RDV_M_CALL, r->next_call, tw_bytes(name.b, TW_KEY_SIZE), offer);
}

int tw_rdv_signal(struct tw_rdv *r, tw_time now, uint32_t call, struct tw_bytes body)
{
    r->now = now;
    return body.n > TW_RDV_BODY_MAX ? TW_EINVAL
                                    : send_call(r, TW_RDV_M_SIGNAL, call, body, tw_bytes(NULL, 0));
}

int tw_rdv_datagram(struct tw_rdv *r, tw_time now, uint32_t call, struct tw_bytes body)
{
    r->now = now;
    return body.n > TW_RDV_DATAGRAM_MAX ? TW_EINVAL
                                        : send_call(r, TW_RDV_M_DATAGRAM, call, body, tw_bytes(NULL, 0));
}

void tw_rdv_hangup(struct tw_rdv *r, tw_time now, uint32_t call, unsigned reason)
{
    uint8_t why = (uint8_t)reason;
    r->now = now;
    (void)!send_call(r, TW_RDV_M_HANGUP, call, tw_bytes(&why, 1), tw_bytes(NULL, 0));
}

static void prove(struct tw_rdv *r)
{
    uint8_t type = TW_RDV_M_PROVE, proof[TW_RDV_PROOF];
    tw_rdv_proof(tw_bytes_str(r->token), r->hello.challenge, proof);
    const struct tw_bytes parts[] = { tw_bytes(&type, 1), tw_bytes(proof, sizeof(proof)) };
    (void)!tw_ws_send(r->ws, parts, 2);
}

static bool on_hello(struct tw_rdv *r, struct tw_bytes in, struct tw_rdv_event *ev)
{
    if ((r->up && !r->proving) || in.n > sizeof(r->hello_bytes))
        return false;
    memcpy(r->hello_bytes, in.p, in.n); /* its views stay */
    if (tw_rdv_hello_decode(tw_bytes(r->hello_bytes, in.n), &r->hello))
        return false;
    if (!r->up)
        r->rtt = r->now - r->asked;
    r->up = true;
    r->hello_at = r->now;
    tw_ws_early_taken(r->ws, r->hello.early);
    keep_mailboxes(r);
    bool again = r->proving;
    r->proving = !again && r->has_proof && !r->hello.may_register;
    if (r->proving)
        prove(r);
    *ev = (struct tw_rdv_event){ .type = TW_RDV_HELLO, .hello = &r->hello, .proving = r->proving };
    return true;
}

/* Whether it is one of today's mailboxes. */
static bool is_ours(const struct tw_rdv *r, struct tw_bytes name)
{
    struct tw_key ours;
    for (size_t i = 0; i <= r->invite_n; i++)
        if (!mailbox_of(r, &r->cfg.self->key, r->epoch, i < r->invite_n ? r->invites[i] : NULL, &ours) &&
            memcmp(ours.b, name.p, TW_KEY_SIZE) == 0)
            return true;
    return false;
}

static bool on_registered(struct tw_rdv *r, struct tw_rd *in, struct tw_rdv_event *ev)
{
    struct tw_bytes name = tw_rd_bytes(in, TW_KEY_SIZE);
    uint8_t what = tw_rd_u8(in);
    if (in->error || what > 2 || !is_ours(r, name)) /* tomorrow's, or yesterday's */
        return false;
    ev->type = what == 0 ? TW_RDV_REGISTERED : what == 1 ? TW_RDV_REPLACED : TW_RDV_DENIED;
    return true;
}

static void send_bare(struct tw_rdv *r, uint8_t type)
{
    const struct tw_bytes part = tw_bytes(&type, 1);
    (void)!tw_ws_send(r->ws, &part, 1);
}

/* True: there is something to tell. */
static bool on_message(struct tw_rdv *r, struct tw_bytes in, struct tw_rdv_event *ev)
{
    struct tw_rd rd = tw_rd(in);
    uint8_t type = tw_rd_u8(&rd);
    *ev = (struct tw_rdv_event){ 0 };
    switch (type) {
    case TW_RDV_M_HELLO:
        return on_hello(r, in, ev);
    case TW_RDV_M_REGISTERED:
        return on_registered(r, &rd, ev);
    case TW_RDV_M_PING:
        send_bare(r, TW_RDV_M_PONG);
        return false;
    case TW_RDV_M_DRAIN:
        ev->type = TW_RDV_DRAIN;
        return true;
    case TW_RDV_M_CALL:
        ev->type = TW_RDV_CALL;
        break;
    case TW_RDV_M_SIGNAL:
        ev->type = TW_RDV_SIGNAL;
        break;
    case TW_RDV_M_DATAGRAM:
        ev->type = TW_RDV_DATAGRAM;
        break;
    case TW_RDV_M_HANGUP:
        ev->type = TW_RDV_GONE;
        break;
    default:
        return false; /* of a later version */
    }
    ev->call = tw_rd_u32(&rd);
    if (type == TW_RDV_M_HANGUP)
        ev->reason = tw_rd_u8(&rd);
    ev->body = tw_rd_bytes(&rd, rd.n);
    return r->up && !rd.error;
}

bool tw_rdv_poll_event(struct tw_rdv *r, struct tw_rdv_event *ev)
{
    struct tw_ws_event w;
    while (tw_ws_poll_event(r->ws, &w)) {
        if (w.type == TW_WS_MESSAGE && !r->closed && on_message(r, w.data, ev))
            return true;
        if (w.type == TW_WS_CLOSED && !r->closed) {
            r->closed = true;
            *ev = (struct tw_rdv_event){ .type = TW_RDV_CLOSED, .why = w.why,
                                         .no_upgrade = tw_ws_was_refused(r->ws) };
            return true;
        }
    }
    return false;
}

static bool is_doubted(const struct tw_rdv *r)
{
    return r->now < r->doubt_until;
}

static tw_time ping_at(const struct tw_rdv *r)
{
    return r->heard + (is_doubted(r) ? DOUBT_EVERY : PING_EVERY);
}

static tw_time dead_at(const struct tw_rdv *r)
{
    return r->pinged + (is_doubted(r) ? DOUBT_WITHIN + 4 * r->rtt : PONG_WITHIN);
}

static void ping(struct tw_rdv *r)
{
    r->pinged = r->now;
    send_bare(r, TW_RDV_M_PING);
}

void tw_rdv_doubt(struct tw_rdv *r, tw_time now)
{
    bool was = is_doubted(r);
    r->now = now;
    r->doubt_until = now + DOUBT_FOR;
    if (!was && r->up && !r->closed && r->pinged == TW_NEVER)
        ping(r);
}

void tw_rdv_tick(struct tw_rdv *r, tw_time now)
{
    r->now = now;
    if (r->closed)
        return;
    keep_mailboxes(r);
    if (!r->up && now >= r->heard + HELLO_WITHIN)
        tw_ws_close(r->ws);
    if (r->pinged != TW_NEVER && now >= dead_at(r))
        tw_ws_close(r->ws);
    else if (r->up && r->pinged == TW_NEVER && now >= ping_at(r))
        ping(r);
}

tw_time tw_rdv_deadline(const struct tw_rdv *r)
{
    if (r->closed)
        return TW_NEVER;
    if (!r->up)
        return r->heard + HELLO_WITHIN;
    return tw_time_min(next_mailbox(r), r->pinged == TW_NEVER ? ping_at(r) : dead_at(r));
}
