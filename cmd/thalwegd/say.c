/* What the operator is told. */
#include <stdio.h>

#include "daemon.h"
#include "log.h"

void say_line(const char *line)
{
    log_line(TW_INFO, "%s", line);
}

void say_where(void)
{
    const struct config *c = d.config;
    char a[TW_ADDR_STRLEN], b[TW_ADDR_STRLEN];
    for (uint32_t i = 0; i < c->relay.listener_n; i++) {
        struct tw_addr l = tw_rt_server_listener(d.server, i);
        log_line(TW_INFO, "listening on udp %s", tw_addr_format(&l, a));
    }
    for (unsigned i = 0; i < c->tcp_n; i++) {
        struct tw_addr l = tw_rt_server_tcp_listener(d.server, i);
        log_line(TW_INFO, "listening on tcp %s", tw_addr_format(&l, a));
    }
    for (uint32_t i = 0; i < c->relay.relay_n && !c->relay.no_turn; i++) {
        const struct tw_relay_addr *r = &c->relay.relays[i];
        if (r->external.family)
            log_line(TW_INFO, "relaying on %s, known as %s", tw_addr_format(&r->ip, a),
                     tw_addr_format(&r->external, b));
        else
            log_line(TW_INFO, "relaying on %s", tw_addr_format(&r->ip, a));
    }
    if (c->tls && c->self_signed)
        log_line(TW_INFO, "TLS and DTLS with a self-signed certificate; name a real one with --cert "
                          "and --pkey");
    if (c->relay.behaviour_n)
        log_line(TW_INFO, "behaviour discovery (RFC 5780) is answered");
    config_say_limits(c, say_line);
}

/* What a WebRTC application's list of ICE servers wants. */
void say_made_up(void)
{
    const struct config *c = d.config;
    char a[TW_ADDR_STRLEN];
    printf("Nothing is configured, so a user was made up. Give this to clients:\n\n{\"urls\":[");
    for (unsigned i = 0; i < c->tcp_n; i++) {
        struct tw_addr l = tw_rt_server_tcp_listener(d.server, i);
        bool secure = l.port == d.options->tls_port;
        tw_addr_format(&l, a);
        printf("%s\"%s:%s?transport=udp\",\"%s:%s?transport=tcp\"", i ? "," : "",
               secure ? "turns" : "turn", a, secure ? "turns" : "turn", a);
    }
    printf("],\"username\":\"%s\",\"credential\":\"%s\"}\n\n", CONFIG_MADE_UP_USER, c->made_up);
    struct tw_addr first = tw_rt_server_tcp_listener(d.server, 0);
    printf("Try it:\n  thalweg turn -u %s -w %s turn:%s\n\n", CONFIG_MADE_UP_USER, c->made_up,
           tw_addr_format(&first, a));
    fflush(stdout);
}

void say_stats(void)
{
    struct tw_rt_server_stats st;
    tw_rt_server_stats(d.server, &st);
#define LINE(name, text)                                                                          \
    if (st.relay.name)                                                                            \
        log_line(TW_INFO, "%llu %s", (unsigned long long)st.relay.name, text);
    TW_RELAY_COUNTERS(LINE)
#undef LINE
#define LINE(name, text)                                                                          \
    if (st.rt.name)                                                                               \
        log_line(TW_INFO, "%llu %s", (unsigned long long)st.rt.name, text);
    TW_RT_COUNTERS(LINE)
#undef LINE
    if (st.tx.dropped)
        log_line(TW_INFO, "%llu datagrams the system would not send",
                 (unsigned long long)st.tx.dropped);
}
