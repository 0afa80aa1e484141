#include "rendezvous/server.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include <thalweg/relay.h>

#include "base/bucket.h"
#include "base/map.h"
#include "base/timer.h"
#include "ident/ident.h"
#include "tunnel/front.h"
#include "tunnel/ws.h"

#define GREET_WITHIN (15 * TW_SEC) /* from connecting to the upgrade */
#define SILENCE (90 * TW_SEC)      /* a user pings every 25 s */
#define CALLS_EVERY (200 * TW_MSEC) /* one connection may begin a call so often, */
#define CALLS_BURST (32 * CALLS_EVERY)
#define RINGS_EVERY (5 * TW_MSEC) /* and one mailbox be called so often: all users of a service that restarts come at once */
#define RINGS_BURST (512 * RINGS_EVERY)
#define SIGNAL_RATE 16384          /* bytes a second of one side of a call, */
#define SIGNAL_BURST (8 * TW_SEC)
#define PATCH_BURST (4 * TW_SEC)
enum {
    BACKLOG_DROP = 64 << 10,       /* a slow reader loses datagrams, */
    BACKLOG_MAX = 1 << 20,         /* and then the connection */
    NAME_ID = 9,
};

struct client;
struct mailbox {
    struct mailbox *next; /* of the same client */
    struct client *owner;
    struct tw_key name;
    uint64_t program;    /* 0: it did not say */
    uint32_t number;     /* which of its connections that was */
    uint32_t hash;
    struct tw_bucket rings;
};

/* A call has two ends; each has a number of its own for it. */
struct call_end {
    struct call_end *next, **at; /* in its client's list */
    struct client *client;
    struct call_end *other;
    uint32_t id, hash;
    struct tw_bucket signals, patch;
};

struct call {
    struct call_end end[2];
};

struct source {
    struct tw_addr prefix;
    uint32_t n;
};

struct client {
    struct tw_timer timer; /* first member */
    uint32_t conn, hash, source_hash;
    struct tw_addr remote;
    struct source *source;
    struct tw_ws *ws;
    struct client *next_dirty;
    bool dirty, up, dead, allowed;
    uint8_t challenge[TW_RDV_CHALLENGE];
    struct mailbox *mailboxes;
    unsigned mailbox_n, call_n;
    struct call_end *calls;
    uint32_t next_call;
    size_t backlog;
    tw_time heard;
    struct tw_bucket calling;
};

struct tw_desk {
    struct tw_desk_config cfg;
    struct tw_env env;
    tw_time now;
    int64_t clock_ms;      /* wall clock minus now */
    struct tw_hash_key key;
    struct tw_map clients, mailboxes, calls, sources;
    struct tw_timers timers;
    struct client *dirty;
    struct tw_desk_stats stats;
    bool draining;
};

/* --- tables --------------------------------------------------------------------------------------- */

static uint32_t hash_bytes(const struct tw_desk *d, const void *p, size_t n)
{
    return (uint32_t)tw_hash(&d->key, p, n);
}

static bool is_conn(const void *item, const void *key)
{
    return ((const struct client *)item)->conn == *(const uint32_t *)key;
}

static struct client *find_client(struct tw_desk *d, uint32_t conn)
{
    return tw_map_get(&d->clients, hash_bytes(d, &conn, sizeof(conn)), is_conn, &conn);
}

static bool is_mailbox(const void *item, const void *key)
{
    return tw_key_eq(&((const struct mailbox *)item)->name, key);
}

static struct mailbox *find_mailbox(struct tw_desk *d, const struct tw_key *name)
{
    return tw_map_get(&d->mailboxes, hash_bytes(d, name, sizeof(*name)), is_mailbox, name);
}

struct call_key {
    const struct client *client;
    uint32_t id;
};

static bool is_call(const void *item, const void *key)
{
    const struct call_end *e = item;
    const struct call_key *k = key;
    return e->client == k->client && e->id == k->id;
}

static uint32_t call_hash(const struct tw_desk *d, const struct client *c, uint32_t id)
{
    uint32_t both[] = { c->conn, id };
    return hash_bytes(d, both, sizeof(both));
}

static struct call_end *find_call(struct tw_desk *d, const struct client *c, uint32_t id)
{
    return tw_map_get(&d->calls, call_hash(d, c, id), is_call, &(struct call_key){ c, id });
}

static bool is_source(const void *item, const void *key)
{
    return tw_addr_eq(&((const struct source *)item)->prefix, key);
}

/* Who shares a quota: one address, or a /64. */
static struct tw_addr prefix_of(const struct tw_addr *a)
{
    struct tw_addr p = tw_addr_ip_only(a);
    p.scope = 0;
    if (p.family == TW_FAMILY_V6)
        memset(p.ip + 8, 0, 8);
    return p;
}

/* --- sending -------------------------------------------------------------------------------------- */

static void mark(struct tw_desk *d, struct client *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->next_dirty = d->dirty;
    d->dirty = c;
}

static void say(struct tw_desk *d, struct client *c, const struct tw_bytes *parts, size_t n)
{
    if (c->dead || tw_ws_send(c->ws, parts, n))
        return;
    for (size_t i = 0; i < n; i++)
        d->stats.bytes += parts[i].n;
    mark(d, c);
}

static void say_bare(struct tw_desk *d, struct client *c, uint8_t type)
{
    const struct tw_bytes part = tw_bytes(&type, 1);
    say(d, c, &part, 1);
}

static void say_call(struct tw_desk *d, struct client *c, uint8_t type, uint32_t id, struct tw_bytes body)
{
    uint8_t head[5] = { type };
    tw_put_u32(head + 1, id);
    const struct tw_bytes parts[] = { tw_bytes(head, sizeof(head)), body };
    say(d, c, parts, 2);
}

static void say_gone(struct tw_desk *d, struct client *c, uint32_t id, unsigned reason)
{
    uint8_t why = (uint8_t)reason;
    say_call(d, c, TW_RDV_M_HANGUP, id, tw_bytes(&why, 1));
}

static void say_registered(struct tw_desk *d, struct client *c, const struct tw_key *name, uint8_t what)
{
    uint8_t type = TW_RDV_M_REGISTERED;
    const struct tw_bytes parts[] = { tw_bytes(&type, 1), tw_bytes(name->b, TW_KEY_SIZE), tw_bytes(&what, 1) };
    say(d, c, parts, 3);
}

/* --- calls ---------------------------------------------------------------------------------------- */

static void unlink_end(struct tw_desk *d, struct call_end *e)
{
    *e->at = e->next;
    if (e->next)
        e->next->at = e->at;
    e->client->call_n--;
    tw_map_del(&d->calls, e->hash, e);
}

static void free_call(struct tw_desk *d, struct call_end *e)
{
    struct call_end *o = e->other;
    unlink_end(d, e);
    unlink_end(d, o);
    d->stats.calls--;
    free(e < o ? e : o); /* they lie side by side: the first is the call */
}

static int link_end(struct tw_desk *d, struct call_end *e, struct client *c, uint32_t id)
{
    e->client = c;
    e->id = id;
    e->hash = call_hash(d, c, id);
    int err = tw_map_put(&d->calls, e->hash, e);
    if (err)
        return err;
    e->next = c->calls;
    e->at = &c->calls;
    if (e->next)
        e->next->at = &e->next;
    c->calls = e;
    c->call_n++;
    return 0;
}

static struct call_end *new_call(struct tw_desk *d, struct client *from, uint32_t id, struct client *to)
{
    struct call *k = calloc(1, sizeof(*k));
    if (!k)
        return NULL;
    to->next_call = (to->next_call + 1) | TW_RDV_CALLEE;
    k->end[0].other = &k->end[1];
    k->end[1].other = &k->end[0];
    if (link_end(d, &k->end[0], from, id)) {
        free(k);
        return NULL;
    }
    if (link_end(d, &k->end[1], to, to->next_call)) {
        unlink_end(d, &k->end[0]);
        free(k);
        return NULL;
    }
    d->stats.calls++;
    return &k->end[1];
}

static void on_call(struct tw_desk *d, struct client *c, struct tw_rd *r)
{
    uint32_t id = tw_rd_u32(r);
    struct tw_bytes name = tw_rd_bytes(r, TW_KEY_SIZE), body = tw_rd_bytes(r, r->n);
    struct tw_key key;
    if (r->error || (id & TW_RDV_CALLEE) || find_call(d, c, id))
        return;
    d->stats.called++;
    memcpy(key.b, name.p, TW_KEY_SIZE);
    if (!tw_bucket_take(&c->calling, d->now, CALLS_EVERY, CALLS_BURST) || c->call_n >= TW_DESK_CALLS) {
        d->stats.busy++;
        say_gone(d, c, id, TW_RDV_BUSY);
        return;
    }
    struct mailbox *m = find_mailbox(d, &key);
    if (!m) {
        d->stats.not_here++;
        say_gone(d, c, id, TW_RDV_NOT_HERE);
        return;
    }
    struct call_end *callee = NULL;
    if (tw_bucket_take(&m->rings, d->now, RINGS_EVERY, RINGS_BURST))
        callee = new_call(d, c, id, m->owner);
    if (!callee) {
        d->stats.busy++;
        say_gone(d, c, id, TW_RDV_BUSY);
        return;
    }
    say_call(d, callee->client, TW_RDV_M_CALL, callee->id, body);
}

static void on_in_call(struct tw_desk *d, struct client *c, uint8_t type, struct tw_rd *r)
{
    struct call_end *e = find_call(d, c, tw_rd_u32(r));
    struct tw_bytes body = tw_rd_bytes(r, r->n);
    if (r->error || !e)
        return;
    struct call_end *to = e->other;
    if (type == TW_RDV_M_HANGUP) {
        say_gone(d, to->client, to->id, body.n ? body.p[0] : TW_RDV_HUNG_UP);
        free_call(d, e);
        return;
    }
    bool datagram = type == TW_RDV_M_DATAGRAM;
    bool pass = datagram ? body.n <= TW_RDV_DATAGRAM_MAX && to->client->backlog < BACKLOG_DROP &&
                               tw_bucket_take(&e->patch, d->now, tw_bucket_cost(body.n + 64, d->cfg.patch_rate),
                                              PATCH_BURST)
                         : tw_bucket_take(&e->signals, d->now, tw_bucket_cost(body.n + 64, SIGNAL_RATE),
                                          SIGNAL_BURST);
    if (!pass) {
        d->stats.dropped++;
        return;
    }
    d->stats.datagrams += datagram;
    d->stats.signals += !datagram;
    say_call(d, to->client, type, to->id, body);
}

/* --- mailboxes ------------------------------------------------------------------------------------ */

static void close_mailbox(struct tw_desk *d, struct mailbox *m)
{
    struct mailbox **at = &m->owner->mailboxes;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    m->owner->mailbox_n--;
    tw_map_del(&d->mailboxes, m->hash, m);
    d->stats.mailboxes--;
    free(m);
}

/* Who has called it may find it at its new connection: the old one may be dead, and nobody knows it yet. */
static void lose_calls(struct tw_desk *d, struct client *c)
{
    for (struct call_end *e = c->calls; e;) {
        if (!(e->id & TW_RDV_CALLEE)) {
            e = e->next;
            continue;
        }
        say_gone(d, c, e->id, TW_RDV_LOST);
        say_gone(d, e->other->client, e->other->id, TW_RDV_LOST);
        free_call(d, e);
        e = c->calls; /* the other end may have been the next one */
    }
}

static void on_register(struct tw_desk *d, struct client *c, struct tw_rd *r)
{
    struct tw_bytes name = tw_rd_bytes(r, TW_KEY_SIZE), sig = tw_rd_bytes(r, TW_SIG_SIZE);
    uint8_t msg[TW_RDV_SIGNED];
    struct tw_key key;
    if (r->error)
        return;
    memcpy(key.b, name.p, TW_KEY_SIZE);
    tw_rdv_signed(c->challenge, msg);
    uint64_t program = r->n >= 12 ? tw_rd_u64(r) : 0;
    uint32_t number = program ? tw_rd_u32(r) : 0;
    struct mailbox *old = find_mailbox(d, &key);
    if (old && (old->owner == c || (program && old->program == program && old->number > number)))
        return; /* it is its already; or what was long on its way, of a connection before */
    if (!c->allowed || d->draining || c->mailbox_n >= TW_DESK_MAILBOXES ||
        !tw_bucket_take(&c->calling, d->now, CALLS_EVERY, CALLS_BURST) || /* a verification is no small work */
        !tw_mailbox_verify(&key, tw_bytes(msg, sizeof(msg)), sig.p)) {
        say_registered(d, c, &key, 2);
        return;
    }
    struct mailbox *m = calloc(1, sizeof(*m));
    if (!m)
        return;
    if (old) { /* the newest wins; the older is told once, unless it is the same program that has moved */
        if (!program || program != old->program)
            say_registered(d, old->owner, &key, 1);
        lose_calls(d, old->owner);
        close_mailbox(d, old);
    }
    *m = (struct mailbox){ .owner = c, .name = key, .program = program, .number = number, .hash = hash_bytes(d, &key, sizeof(key)) };
    if (tw_map_put(&d->mailboxes, m->hash, m)) {
        free(m);
        say_registered(d, c, &key, 2);
        return;
    }
    m->next = c->mailboxes;
    c->mailboxes = m;
    c->mailbox_n++;
    d->stats.mailboxes++;
    d->stats.registered++;
    say_registered(d, c, &key, 0);
}

/* --- connections ---------------------------------------------------------------------------------- */

int tw_desk_new(const struct tw_desk_config *cfg, const struct tw_env *env, struct tw_desk **ret)
{
    struct tw_desk *d = calloc(1, sizeof(*d));
    if (!d)
        return TW_ENOMEM;
    d->cfg = *cfg;
    d->env = *env;
    tw_hash_key_init(&d->key, &env->rng);
    tw_map_init(&d->clients, cfg->max_clients);
    tw_map_init(&d->mailboxes, cfg->max_clients * 4);
    tw_map_init(&d->calls, cfg->max_clients * 8);
    tw_map_init(&d->sources, cfg->max_clients);
    tw_timers_init(&d->timers);
    *ret = d;
    return 0;
}

static void forget(struct tw_desk *d, struct client *c)
{
    while (c->calls) {
        say_gone(d, c->calls->other->client, c->calls->other->id, TW_RDV_LOST);
        free_call(d, c->calls);
    }
    while (c->mailboxes)
        close_mailbox(d, c->mailboxes);
    for (struct client **at = &d->dirty; *at; at = &(*at)->next_dirty)
        if (*at == c) {
            *at = c->next_dirty;
            break;
        }
    if (c->source && --c->source->n == 0) {
        tw_map_del(&d->sources, c->source_hash, c->source);
        free(c->source);
    }
    tw_timers_set(&d->timers, &c->timer, TW_NEVER);
    tw_map_del(&d->clients, c->hash, c);
    d->stats.clients--;
    tw_ws_free(c->ws);
    free(c);
}

void tw_desk_free(struct tw_desk *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; d->clients.slots && i <= d->clients.mask;) {
        if (d->clients.slots[i].item)
            forget(d, d->clients.slots[i].item); /* others may move here */
        else
            i++;
    }
    tw_map_fini(&d->clients);
    tw_map_fini(&d->mailboxes);
    tw_map_fini(&d->calls);
    tw_map_fini(&d->sources);
    tw_timers_fini(&d->timers);
    free(d);
}

void tw_desk_clock(struct tw_desk *d, tw_time now, uint64_t unix_ms)
{
    d->now = now;
    d->clock_ms = (int64_t)unix_ms - now / TW_MSEC;
}

static int take_source(struct tw_desk *d, struct client *c)
{
    struct tw_addr prefix = prefix_of(&c->remote);
    c->source_hash = hash_bytes(d, &prefix, sizeof(prefix));
    c->source = tw_map_get(&d->sources, c->source_hash, is_source, &prefix);
    if (!c->source) {
        struct source *s = calloc(1, sizeof(*s));
        if (!s)
            return TW_ENOMEM;
        s->prefix = prefix;
        int err = tw_map_put(&d->sources, c->source_hash, s);
        if (err) {
            free(s);
            return err;
        }
        c->source = s;
    }
    c->source->n++;
    return d->cfg.max_per_source && c->source->n > d->cfg.max_per_source ? TW_EFULL : 0;
}

int tw_desk_connected(struct tw_desk *d, tw_time now, uint32_t conn, const struct tw_addr *remote)
{
    const struct tw_ws_config ws = { .server = true, .path = TW_FRONT_PATH, .protocol = TW_RDV_PROTOCOL, .page = d->cfg.page,
                                     .max_message = TW_RDV_MESSAGE_MAX, .early = true };
    d->now = now;
    if (d->draining)
        return TW_EFULL;
    struct client *c = calloc(1, sizeof(*c));
    if (!c)
        return TW_ENOMEM;
    c->conn = conn;
    c->remote = *remote;
    c->heard = now;
    c->hash = hash_bytes(d, &conn, sizeof(conn));
    int err = tw_ws_new(&ws, &d->env, &c->ws);
    err = err ? err : tw_timers_reserve(&d->timers, d->clients.len + 1);
    err = err ? err : tw_map_put(&d->clients, c->hash, c);
    if (err) {
        tw_ws_free(c->ws);
        free(c);
        return err;
    }
    d->stats.clients++;
    err = take_source(d, c);
    if (err) {
        forget(d, c);
        return err;
    }
    tw_timers_set(&d->timers, &c->timer, now + GREET_WITHIN);
    return 0;
}

static bool has_token(const struct tw_desk *d, struct tw_bytes token)
{
    for (size_t i = 0; i < d->cfg.token_n; i++)
        if (tw_bytes_eq(token, tw_bytes_str(d->cfg.tokens[i])))
            return true;
    return false;
}

/* A name that is good for a while, and its password. What stands behind the colon is the same for all who come with one
 * token from one network on one day, so that they share a quota at the relay; to others it means nothing. */
struct credential {
    char name[40], password[29], nonce[TW_RELAY_TIMED_NONCE + 1];
};

static int make_credential(struct tw_desk *d, uint64_t unix_ms, const struct tw_addr *from, struct tw_bytes token,
                           struct credential *c)
{
    struct tw_addr prefix = prefix_of(from);
    uint8_t id[NAME_ID], day[8];
    char hex[2 * NAME_ID + 1];
    tw_put_u64(day, unix_ms / TW_RDV_DAY_MS);
    const struct tw_bytes parts[] = { d->cfg.secret, tw_bytes(prefix.ip, sizeof(prefix.ip)), token, tw_bytes(day, 8) };
    tw_digest("thalweg relay name", parts, 4, id, sizeof(id));
    sodium_bin2hex(hex, sizeof(hex), id, sizeof(id));
    snprintf(c->name, sizeof(c->name), "%llu:%s", (unsigned long long)(unix_ms / 1000 + d->cfg.lifetime), hex);
    tw_relay_timed_nonce((const char *)d->cfg.secret.p, c->name, (int64_t)(unix_ms / 1000), c->nonce);
    return tw_relay_timed_password((const char *)d->cfg.secret.p, c->name, c->password);
}

/* early: how many messages have come already. */
static void greet(struct tw_desk *d, struct client *c, struct tw_bytes token, uint8_t early)
{
    uint8_t buf[TW_RDV_HELLO_MAX];
    struct tw_wr w = tw_wr(buf, sizeof(buf));
    struct credential cred;
    struct tw_rdv_hello h = { .unix_ms = (uint64_t)(d->clock_ms + d->now / TW_MSEC), .seen = c->remote, .early = early };
    c->up = true;
    c->allowed = d->cfg.open || has_token(d, token);
    h.may_register = c->allowed;
    h.fresh = d->now < d->cfg.fresh_until;
    d->env.rng.fill(d->env.rng.ctx, c->challenge, sizeof(c->challenge));
    memcpy(h.challenge, c->challenge, sizeof(h.challenge));
    bool relay = c->allowed && d->cfg.secret.n && make_credential(d, h.unix_ms, &c->remote, token, &cred) == 0;
    for (size_t i = 0; i < d->cfg.server_n; i++) {
        struct tw_rdv_server s = d->cfg.servers[i];
        if (s.turn && !relay)
            continue;
        if (s.turn) {
            s.username = tw_bytes_str(cred.name);
            s.password = tw_bytes_str(cred.password);
            if (s.realm.n)
                s.nonce = tw_bytes_str(cred.nonce);
        }
        h.server[h.server_n++] = s;
    }
    if (tw_rdv_hello_encode(&h, &w))
        return;
    const struct tw_bytes part = tw_bytes(buf, w.n);
    say(d, c, &part, 1);
}

/* Whoever knows a token, but does not want to show it on this way. */
static void on_prove(struct tw_desk *d, struct client *c, struct tw_rd *r)
{
    uint8_t right[TW_RDV_PROOF];
    struct tw_bytes proof = tw_rd_bytes(r, TW_RDV_PROOF);
    if (r->error || c->allowed)
        return;
    for (size_t i = 0; i < d->cfg.token_n; i++) {
        tw_rdv_proof(tw_bytes_str(d->cfg.tokens[i]), c->challenge, right);
        if (sodium_memcmp(right, proof.p, TW_RDV_PROOF) == 0) {
            greet(d, c, tw_bytes_str(d->cfg.tokens[i]), 0);
            return;
        }
    }
    greet(d, c, tw_bytes(NULL, 0), 0); /* so that it need not wait */
}

static void end(struct tw_desk *d, struct client *c)
{
    if (c->dead)
        return;
    tw_ws_close(c->ws);
    c->dead = true;
    mark(d, c);
}

static void on_message(struct tw_desk *d, struct client *c, struct tw_bytes in)
{
    struct tw_rd r = tw_rd(in);
    uint8_t type = tw_rd_u8(&r);
    switch (type) {
    case TW_RDV_M_REGISTER:
        on_register(d, c, &r);
        break;
    case TW_RDV_M_CALL:
        on_call(d, c, &r);
        break;
    case TW_RDV_M_SIGNAL:
    case TW_RDV_M_DATAGRAM:
    case TW_RDV_M_HANGUP:
        on_in_call(d, c, type, &r);
        break;
    case TW_RDV_M_PROVE:
        on_prove(d, c, &r);
        break;
    case TW_RDV_M_PING:
        say_bare(d, c, TW_RDV_M_PONG);
        break;
    default: /* of a later version */
        break;
    }
}

void tw_desk_recv(struct tw_desk *d, tw_time now, uint32_t conn, struct tw_bytes in)
{
    struct client *c = find_client(d, conn);
    struct tw_ws_event ev;
    d->now = now;
    if (!c || c->dead)
        return;
    c->heard = now;
    tw_ws_recv(c->ws, in);
    while (!c->dead && tw_ws_poll_event(c->ws, &ev)) {
        if (ev.type == TW_WS_OPEN) {
            greet(d, c, ev.data, ev.early);
            tw_timers_set(&d->timers, &c->timer, now + SILENCE);
        } else if (ev.type == TW_WS_MESSAGE) {
            on_message(d, c, ev.data);
        } else {
            c->dead = true;
        }
    }
    mark(d, c);
}

void tw_desk_disconnected(struct tw_desk *d, tw_time now, uint32_t conn)
{
    struct client *c = find_client(d, conn);
    d->now = now;
    if (c)
        forget(d, c);
}

void tw_desk_backlog(struct tw_desk *d, uint32_t conn, size_t bytes)
{
    struct client *c = find_client(d, conn);
    if (!c)
        return;
    c->backlog = bytes;
    if (bytes > BACKLOG_MAX)
        end(d, c);
}

void tw_desk_drain(struct tw_desk *d, tw_time now)
{
    d->now = now;
    d->draining = true;
    for (uint32_t i = 0; d->clients.slots && i <= d->clients.mask; i++) {
        struct client *c = d->clients.slots[i].item;
        if (c && c->up)
            say_bare(d, c, TW_RDV_M_DRAIN);
    }
}

void tw_desk_tick(struct tw_desk *d, tw_time now)
{
    struct tw_timer *t;
    d->now = now;
    while ((t = tw_timers_pop(&d->timers, now))) {
        struct client *c = (struct client *)t;
        if (c->up && now - c->heard < SILENCE)
            tw_timers_set(&d->timers, &c->timer, c->heard + SILENCE);
        else
            end(d, c);
    }
}

tw_time tw_desk_deadline(const struct tw_desk *d)
{
    return tw_timers_next(&d->timers);
}

bool tw_desk_poll_tx(struct tw_desk *d, uint32_t *ret_conn, struct tw_bytes *ret_bytes, bool *ret_close)
{
    struct client *c = d->dirty;
    if (!c)
        return false;
    d->dirty = c->next_dirty;
    c->dirty = false;
    *ret_conn = c->conn;
    *ret_bytes = tw_ws_out(c->ws);
    *ret_close = c->dead;
    return true;
}

const struct tw_desk_stats *tw_desk_stats(const struct tw_desk *d)
{
    return &d->stats;
}
