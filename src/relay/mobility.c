/* Mobility (RFC 8016): a ticket finds the allocation again when its client has another address. */
#include "relay/internal.h"

#include <sodium.h>
#include <stdlib.h>

/* Worker, three zero bytes, serial number, 32 bits of chance, 96 bits of MAC over these; as base64,
 * since there are clients that keep a ticket as a C string. */
enum { BODY = 12, MAC = 12, RAW = BODY + MAC, TEXT = 32 };

static void ticket_mac(const struct tw_relay *r, const uint8_t body[BODY], uint8_t mac[MAC])
{
    uint8_t out[crypto_shorthash_siphashx24_BYTES];
    crypto_shorthash_siphashx24(out, body, BODY, r->shared->keys.ticket.k);
    memcpy(mac, out, MAC);
}

static bool eq_serial(const void *item, const void *key)
{
    return ((const struct alloc *)item)->ticket_serial == *(const uint32_t *)key;
}

/* Gives the allocation a serial number of its own. False: no memory. */
bool relay_ticket_serial(struct tw_relay *r, struct alloc *a)
{
    do
        r->env.rng.fill(r->env.rng.ctx, &a->ticket_serial, sizeof(a->ticket_serial));
    while (tw_map_get(&r->by_ticket, a->ticket_serial, eq_serial, &a->ticket_serial));
    a->mobile = !tw_map_put(&r->by_ticket, a->ticket_serial, a);
    return a->mobile;
}

void relay_add_ticket(struct tw_relay *r, struct tw_stun_enc *e, const struct alloc *a)
{
    uint8_t ticket[RAW] = { (uint8_t)r->worker };
    char text[TEXT + 1];
    tw_put_u32(ticket + 4, a->ticket_serial);
    r->env.rng.fill(r->env.rng.ctx, ticket + 8, 4);
    ticket_mac(r, ticket, ticket + BODY);
    sodium_bin2base64(text, sizeof(text), ticket, RAW, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
    tw_stun_add(e, TW_STUN_A_MOBILITY_TICKET, tw_bytes(text, TEXT));
}

/* False: it is none of ours. */
static bool read_ticket(const struct tw_relay *r, struct tw_bytes text, uint8_t ret[RAW])
{
    uint8_t mac[MAC];
    size_t n;
    if (text.n != TEXT ||
        sodium_base642bin(ret, RAW, (const char *)text.p, TEXT, NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL_NO_PADDING) || n != RAW)
        return false;
    ticket_mac(r, ret, mac);
    return sodium_memcmp(mac, ret + BODY, MAC) == 0;
}

/* -1: it is none of ours. */
int relay_ticket_worker(const struct tw_relay *r, struct tw_bytes ticket)
{
    uint8_t raw[RAW];
    return read_ticket(r, ticket, raw) ? raw[0] : -1;
}

struct alloc *relay_ticket_alloc(struct tw_relay *r, struct tw_bytes ticket)
{
    uint8_t raw[RAW];
    if (!read_ticket(r, ticket, raw) || raw[0] != r->worker)
        return NULL;
    uint32_t serial = tw_get_u32(raw + 4);
    return tw_map_get(&r->by_ticket, serial, eq_serial, &serial);
}

void relay_forget_move(struct tw_relay *r, struct alloc *a)
{
    if (a->moved)
        relay_foreign_drop(r, a->moved);
}

/* RFC 8016 §3.2: the request is authenticated, and its nonce came back from the new address, so
 * data goes there from now on. What the client sent from the old one is still taken for a while.
 * 0, or the error code. */
unsigned relay_move(struct tw_relay *r, struct alloc *a, const struct tw_datagram *in)
{
    struct path to = relay_path(r, in);
    uint32_t hash = relay_hash_addr(r, &to.client);
    relay_forget_move(r, a); /* one old path at a time */
    struct foreign *old = relay_foreign_new(r, &a->path, r->worker, a);
    if (!old)
        return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    /* Under both hashes for a moment: entries are told apart by hash and item. */
    uint32_t max = r->by_client.max;
    r->by_client.max++;
    int err = hash == a->hash ? 0 : tw_map_put(&r->by_client, hash, a);
    r->by_client.max = max;
    if (err) {
        old->alloc = NULL;
        relay_foreign_drop(r, old);
        return TW_STUN_CODE_INSUFFICIENT_CAPACITY;
    }
    if (hash != a->hash)
        tw_map_del(&r->by_client, a->hash, a);
    a->moved = old;
    tw_timers_set(&r->foreign_timers, &old->timer, tw_time_add(r->now, MOVED_SEC * TW_SEC));
    a->path = to;
    a->hash = hash;
    r->last = NULL;
    r->stats.mobility_moves++;
    return 0;
}
