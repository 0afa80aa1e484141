/* The rendezvous server, in the main thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "log.h"
#include "rt/desk.h"
#include "rt/os.h"
#include "state.h"

enum { SERVERS = 4, LIFETIME = 86400 };
#define FRESH_FOR (60 * TW_SEC)

/* What the desk borrows: options and configuration are replaced by a reload, these are not. */
static struct {
    struct tw_rt_desk *desk;
    char *tokens[OPTION_LIST_MAX];
    unsigned token_n;
    char made_up[STATE_TEXT];
    char secret[sizeof(((struct config *)0)->rendezvous_secret)];
    char realm[TW_RELAY_REALM_MAX + 1];
    struct tw_rdv_server servers[SERVERS];
    struct tw_range *proxies;
    struct tw_rt_desk_config cfg;
} r;

static void add_server(bool turn, enum tw_transport transport, uint16_t port)
{
    struct tw_rdv_server *s = &r.servers[r.cfg.desk.server_n++];
    *s = (struct tw_rdv_server){ .turn = turn, .transport = transport, .addr = tw_addr_v4(0, 0, 0, 0, port) };
    if (turn)
        s->realm = tw_bytes_str(r.realm);
}

/* What users are told to ask about their NATs, and to relay by: this server, at the address at which they
 * reach the rendezvous. */
static void recommend(const struct config *c, const struct options *o)
{
    uint16_t udp = tw_rt_server_listener(d.server, 0).port;
    uint16_t tcp = c->tcp_n ? tw_rt_server_tcp_listener(d.server, 0).port : 0;
    snprintf(r.realm, sizeof(r.realm), "%s", c->realm ? c->realm : "");
    if (!o->no_udp) {
        add_server(false, TW_TRANSPORT_UDP, udp);
        if (!o->stun_only)
            add_server(true, TW_TRANSPORT_UDP, udp);
    }
    if (!o->no_tcp && tcp && !o->stun_only)
        add_server(true, TW_TRANSPORT_TCP, tcp);
    if (!o->stun_only && !o->no_tcp) /* at the same place as this is heard from, whatever lies between */
        add_server(true, TW_TRANSPORT_WS, 0);
    r.cfg.desk.servers = r.servers;
}

static void to_relay(void *user, int fd, struct tw_rt_newcomer *newcomer)
{
    (void)user;
    tw_rt_server_adopt(d.server, fd, newcomer);
}

static bool take_tokens(const struct options *o)
{
    for (unsigned i = 0; i < o->rendezvous_tokens.n; i++)
        if (!(r.tokens[r.token_n++] = strdup(o->rendezvous_tokens.v[i])))
            return false;
    if (r.token_n == 0 && !o->rendezvous_open) {
        state_make_up(o, "token", 16, r.made_up);
        r.tokens[r.token_n++] = r.made_up;
    }
    r.cfg.desk.tokens = (const char *const *)r.tokens;
    r.cfg.desk.token_n = r.token_n;
    return true;
}

static void add_listener(const struct tw_addr *ip, unsigned long port, bool tls)
{
    struct tw_addr at = tw_addr_ip_only(ip);
    at.port = (uint16_t)port;
    for (size_t i = 0; i < r.cfg.listener_n; i++)
        if (r.cfg.listener[i].tls == tls && tw_addr_eq(&r.cfg.listener[i].addr, &at))
            return;
    if (r.cfg.listener_n < TW_RT_DESK_LISTENERS)
        r.cfg.listener[r.cfg.listener_n++] = (struct tw_rt_desk_listener){ at, tls };
}

/* Its address for users, with the pin of a certificate that nobody they know has signed. */
static void say_where_it_is(const struct config *c, size_t i)
{
    struct tw_addr at = tw_rt_desk_listener(r.desk, i);
    struct tw_rdv_addr a = { .port = at.port, .plain = !r.cfg.listener[i].tls };
    uint8_t pin[32];
    char text[TW_SERVER_TEXT_MAX];
    at.port = 0;
    tw_addr_format(&at, a.host);
    if (!a.plain && c->self_signed && tw_rt_tls_pin(c->tls, pin)) {
        a.pinned = true;
        memcpy(a.pin, pin, TW_PIN_SIZE);
    }
    if (!tw_rdv_addr_format(&a, text, sizeof(text)))
        log_line(TW_INFO, "rendezvous at %s", text);
}

bool rendezvous_start(void)
{
    const struct options *o = d.options;
    const struct config *c = d.config;
    char text[TW_ADDR_STRLEN];
    int bad;
    if (!config_wants_rendezvous(o))
        return true;
    if (!take_tokens(o))
        return false;
    snprintf(r.secret, sizeof(r.secret), "%s", c->rendezvous_secret);
    r.cfg.desk.open = o->rendezvous_open;
    r.cfg.desk.secret = tw_bytes_str(r.secret);
    r.cfg.desk.lifetime = LIFETIME;
    r.cfg.desk.max_clients = (uint32_t)(o->rendezvous_clients ? o->rendezvous_clients : 100000);
    r.cfg.desk.max_per_source = (uint32_t)(o->rendezvous_per_source ? o->rendezvous_per_source : 256);
    r.cfg.desk.patch_rate = (uint32_t)(o->rendezvous_rate ? o->rendezvous_rate : 65536);
    r.cfg.desk.fresh_until = tw_rt_now() + FRESH_FOR;
    r.cfg.desk.page = rendezvous_page;
    r.cfg.tls = c->tls;
    r.cfg.turn = o->stun_only || o->no_tcp ? NULL : to_relay;
    if (c->proxies.n && !(r.proxies = malloc(c->proxies.n * sizeof(*r.proxies))))
        return false;
    if (c->proxies.n)
        memcpy(r.proxies, c->proxies.v, c->proxies.n * sizeof(*r.proxies));
    r.cfg.proxies = r.proxies;
    r.cfg.proxy_n = c->proxies.n;
    recommend(c, o);
    for (uint32_t i = 0; i < c->relay.listener_n; i++) {
        if (c->tls && !o->no_rendezvous_tls)
            add_listener(&c->relay.listeners[i], o->rendezvous_port, true);
        if (o->rendezvous_plain)
            add_listener(&c->relay.listeners[i], o->rendezvous_plain_port, false);
    }
    int err = tw_rt_desk_new(&r.cfg, d.loop, &r.desk, &bad);
    if (err) {
        const char *why = err == TW_ESYS ? strerror(errno) : tw_strerror(err);
        if (bad >= 0)
            log_line(TW_ERROR, "cannot listen on tcp %s for the rendezvous: %s; see --rendezvous-port",
                     tw_addr_format(&r.cfg.listener[bad].addr, text), why);
        else
            log_line(TW_ERROR, "no rendezvous: %s", why);
        return false;
    }
    for (size_t i = 0; i < r.cfg.listener_n; i++)
        say_where_it_is(c, i);
    if (r.made_up[0])
        log_line(TW_INFO, "rendezvous: a token was made up; who listens with --token %s can be dialled here",
                 r.made_up);
    else if (o->rendezvous_open)
        log_line(TW_INFO, "rendezvous: anybody can be dialled here, and use the relay");
    return true;
}

void rendezvous_reload(void)
{
    if (r.desk)
        tw_rt_desk_set_tls(r.desk, d.config->tls);
}

void rendezvous_drain(void)
{
    if (r.desk)
        tw_rt_desk_drain(r.desk);
}

void rendezvous_stop(void)
{
    if (!r.desk)
        return;
    const struct tw_desk_stats *st = tw_rt_desk_stats(r.desk);
    if (st->called)
        log_line(TW_INFO, "%llu calls, %llu of them to who was not here",
                 (unsigned long long)st->called, (unsigned long long)st->not_here);
    tw_rt_desk_free(r.desk);
    r.desk = NULL; /* what it borrows is needed until its handles are closed */
}
