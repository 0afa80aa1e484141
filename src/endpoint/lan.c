/* In one network: who is sought by multicast, under names that mean nothing to others, and who answers. */
#include <stdio.h>
#include <stdlib.h>

#include "endpoint/internal.h"

static size_t names_of(const struct tw_endpoint *e, const struct tw_key *key, const uint8_t *invite,
                       struct tw_key out[2])
{
    uint64_t ms = ep_unix_ms(e), left = TW_RDV_DAY_MS - ms % TW_RDV_DAY_MS;
    struct tw_mailbox_of of = { (uint32_t)(ms / TW_RDV_DAY_MS), LAN_LABEL, tw_bytes(invite, invite ? TW_INVITE_SIZE : 0) };
    size_t n = tw_mailbox_name(key, &of, &out[0]) == 0;
    bool late = left < TW_RDV_NEIGHBOUR_MS, early = TW_RDV_DAY_MS - left < TW_RDV_NEIGHBOUR_MS; /* clocks differ */
    of.epoch += late;
    of.epoch -= early;
    return n + ((late || early) && n && tw_mailbox_name(key, &of, &out[1]) == 0);
}

void ep_lan_seek(struct conn *c)
{
    struct tw_endpoint *e = c->e;
    size_t n = names_of(e, &c->peer.key, NULL, e->seek);
    if (c->peer.invited)
        n += names_of(e, &c->peer.key, c->peer.invite, e->seek + n);
    struct tw_endpoint_event *ev = ep_push(e, TW_EP_SEEK);
    ev->conn = c->id;
    ev->data = tw_bytes(e->seek, n * sizeof(e->seek[0]));
}

size_t tw_endpoint_names(const struct tw_endpoint *e, struct tw_key *out, size_t cap)
{
    struct tw_key two[2];
    size_t n = 0;
    for (size_t i = 0; i <= e->invite_n; i++) {
        if (i == e->invite_n && e->cfg.unlisted)
            break;
        size_t k = names_of(e, &e->self.key, i < e->invite_n ? e->invites[i].secret : NULL, two);
        for (size_t j = 0; j < k && n < cap; j++)
            out[n++] = two[j];
    }
    return n;
}

static struct link *lan_link(struct tw_endpoint *e, const struct tw_addr *at)
{
    struct tw_rdv_addr server = { .port = at->port, .plain = true };
    struct tw_addr ip = tw_addr_ip_only(at);
    char text[TW_ADDR_STRLEN];
    snprintf(server.host, sizeof(server.host), "%s", tw_addr_format(&ip, text));
    struct link *l = ep_link_get(e, &server);
    if (l)
        l->lan = true;
    return l;
}

void tw_endpoint_found(struct tw_endpoint *e, tw_time now, uint32_t conn, const struct tw_addr *at)
{
    struct conn *c = ep_conn_find(e, conn);
    e->now = now;
    struct link *l = c && c->caller && !c->alt.link && !c->by_hand && c->state <= CONN_CALLING ? lan_link(e, at) : NULL;
    if (!l || l == c->call.link)
        return;
    c->alt.link = l;
    if (ep_link_is_up(l))
        ep_call_on_link(e, l);
    else
        ep_links_tick(e);
}

int tw_endpoint_desk(struct tw_endpoint *e, tw_time now, const struct tw_addr *at, const char *token)
{
    char *copy = strdup(token);
    e->now = now;
    struct link *l = copy ? lan_link(e, at) : NULL;
    if (!l) {
        free(copy);
        return copy ? TW_EFULL : TW_ENOMEM;
    }
    free(e->lan_token);
    e->lan_token = copy;
    l->token = copy;
    l->own = true;
    ep_links_tick(e);
    return 0;
}
