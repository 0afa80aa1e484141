#include "flow.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/file.h"
#include "rt/os.h"
#include "rt/resolve.h"
#include "status.h"

/* --- what is printed -------------------------------------------------------------------------------- */

double peer_ms(const struct peer *p)
{
    return (double)(tw_rt_now() - p->begun) / (double)TW_MSEC;
}

void peer_json(const struct peer *p, const char *event, const char *more, ...)
{
    va_list args;
    if (!p->o->json)
        return;
    fprintf(p->events, "{\"event\":\"%s\"", event);
    va_start(args, more);
    for (const char *at = more; *at; at++) {
        if (*at != '%')
            fputc(*at, p->events);
        else if (*++at == 's')
            cmd_json_string(p->events, va_arg(args, const char *));
        else if (*at == 'f')
            fprintf(p->events, "%.1f", va_arg(args, double));
        else if (*at == 'b')
            fputs(va_arg(args, int) ? "true" : "false", p->events);
        else if (*at == 'l')
            fprintf(p->events, "%llu", (unsigned long long)va_arg(args, uint64_t));
        else
            fprintf(p->events, "%u", va_arg(args, unsigned));
    }
    va_end(args);
    fputs("}\n", p->events);
    fflush(p->events);
}

void peer_say(const struct peer *p, const char *fmt, ...)
{
    va_list args;
    if (p->o->json)
        return;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

static const char *text_of(const struct tw_rdv_addr *a)
{
    static char text[TW_SERVER_TEXT_MAX];
    return tw_rdv_addr_format(a, text, sizeof(text)) ? "?" : text;
}

static const char *text_of_key(const struct tw_key *key)
{
    static char text[TW_ADDRESS_LEN + 1];
    tw_key_format(key, text);
    return text;
}

static void say_path(struct peer *p, const struct tw_endpoint_event *ev)
{
    static const char NO_WAY[] = "no way; looking for another one";
    const struct tw_endpoint_path *path = &ev->path;
    bool no_way = path->rung == TW_RUNG_NONE;
    char local[TW_ADDR_STRLEN], remote[TW_ADDR_STRLEN];
    double rtt = (double)path->rtt / (double)TW_MSEC;
    tw_addr_format(&path->local, local);
    tw_addr_format(&path->remote, remote);
    if (path->local.family)
        peer_json(p, "path", ",\"conn\":%u,\"rung\":%s,\"ms\":%f,\"rtt_ms\":%f,\"local\":%s,\"remote\":%s", ev->conn,
                  tw_rung_name(path->rung), peer_ms(p), rtt, local, remote);
    else
        peer_json(p, "path", ",\"conn\":%u,\"rung\":%s,\"ms\":%f", ev->conn, tw_rung_name(path->rung), peer_ms(p));
    struct tw_endpoint_conn c;
    if (p->logs && !tw_endpoint_conn(p->rt.endpoint, ev->conn, &c)) {
        if (path->local.family)
            peer_say(p, "thalweg: %s: by %s, %s to %s", text_of_key(&c.key), tw_rung_name(path->rung), local, remote);
        else
            peer_say(p, "thalweg: %s: %s%s", text_of_key(&c.key), no_way ? NO_WAY : "by ", no_way ? "" : tw_rung_name(path->rung));
    }
    if (!p->ladder)
        return;
    if (path->local.family)
        peer_say(p, "  %7.0f ms  %-8s %s to %s, round trip %.1f ms", peer_ms(p), tw_rung_name(path->rung), local,
                 remote, rtt);
    else
        peer_say(p, "  %7.0f ms  %s", peer_ms(p), no_way ? NO_WAY : "patched  by way of the rendezvous, for now");
}

static unsigned server_bit(const struct peer *p, const struct tw_rdv_addr *server)
{
    const struct tw_endpoint_config *cfg = &p->rt.cfg.endpoint;
    for (size_t i = 0; i < cfg->server_n; i++)
        if (tw_rdv_addr_eq(&cfg->servers[i], server))
            return 1U << i;
    return 0;
}

static void say_event(struct peer *p, const struct tw_endpoint_event *ev)
{
    static char early[TW_ENDPOINT_EARLY_MAX + 1];
    struct tw_endpoint_conn c;
    switch (ev->type) {
    case TW_EP_ONLINE:
        p->online |= server_bit(p, &ev->server);
        peer_json(p, "online", ",\"server\":%s,\"ms\":%f", text_of(&ev->server), peer_ms(p));
        if (p->o->verbose || p->ladder)
            peer_say(p, "  %7.0f ms  online at %s", peer_ms(p), text_of(&ev->server));
        break;
    case TW_EP_OFFLINE:
        p->online &= ~server_bit(p, &ev->server);
        peer_json(p, "offline", ",\"server\":%s,\"why\":%s", text_of(&ev->server), ev->why);
        peer_say(p, "thalweg: %s: %s", text_of(&ev->server), ev->why);
        break;
    case TW_EP_KNOCK:
        peer_json(p, "knock", ",\"key\":%s", text_of_key(&ev->key));
        peer_say(p, "thalweg: %s dialled and was not let in (--allow lets it in)", text_of_key(&ev->key));
        break;
    case TW_EP_TICKET:
        hand_tell(p, ev);
        break;
    case TW_EP_INCOMING:
        peer_json(p, "incoming", ",\"conn\":%u,\"key\":%s", ev->conn, text_of_key(&ev->key));
        break;
    case TW_EP_EARLY:
        snprintf(early, sizeof(early), "%.*s", (int)ev->data.n, (const char *)ev->data.p);
        peer_json(p, "early", ",\"conn\":%u,\"ms\":%f,\"text\":%s", ev->conn, peer_ms(p), early);
        for (char *at = early; *at; at++) /* a peer's words: they may not steer a terminal */
            *at = (unsigned char)*at < ' ' || *at == 127 ? '?' : *at;
        peer_say(p, "thalweg: it says: %s", early);
        break;
    case TW_EP_CONNECTED:
        if (tw_endpoint_conn(p->rt.endpoint, ev->conn, &c))
            break;
        peer_json(p, "connected", ",\"conn\":%u,\"key\":%s,\"ms\":%f,\"rung\":%s", ev->conn, text_of_key(&c.key), peer_ms(p),
                  tw_rung_name(c.path.rung));
        if (p->o->verbose || (p->ladder && !c.caller))
            peer_say(p, "thalweg: connected with %s", text_of_key(&c.key));
        break;
    case TW_EP_PATH:
        say_path(p, ev);
        break;
    case TW_EP_CLOSED:
        peer_json(p, "closed", ",\"conn\":%u,\"code\":%u,\"why\":%s", ev->conn, (unsigned)ev->code, ev->why ? ev->why : "");
        break;
    default:
        break;
    }
}

static void on_note(struct tw_rt_endpoint *r, const struct tw_rdv_addr *server, const char *note, bool wrong)
{
    const struct peer *p = r->cfg.user;
    if (wrong)
        peer_json(p, "doubt", ",\"server\":%s,\"why\":%s", text_of(server), note);
    if (p->o->verbose || wrong)
        peer_say(p, "thalweg: %s: %s", text_of(server), note);
}

static void on_keylog(void *ctx, const char *line)
{
    fprintf(ctx, "%s\n", line);
    fflush(ctx);
}

/* Into a file of that connection's: few ever trace, and each line is there if the process dies. */
static void on_trace(void *ctx, uint32_t trace, enum tw_endpoint_trace what, const void *data, size_t n)
{
    static const char *const kinds[] = { [TW_TRACE_TAPE] = "tape", [TW_TRACE_QLOG] = "qlog" };
    char path[4096];
    snprintf(path, sizeof(path), "%s/%ld-%u.%s", (const char *)ctx, (long)getpid(), trace, kinds[what]);
    FILE *f = fopen(path, "ae");
    if (!f)
        return;
    fwrite(data, 1, n, f);
    if (what == TW_TRACE_TAPE)
        putc('\n', f);
    fclose(f);
}

/* --- options ---------------------------------------------------------------------------------------- */

/* The configuration file: "server URL" and "token TOKEN", one a line; the command line wins. */
static int read_file(struct peer_options *o)
{
    static char *text; /* until the process ends: options point into it */
    char path[4096];
    size_t n;
    if (!config_path("config", path, sizeof(path)) || tw_rt_read_file(path, 1 << 16, &text, &n))
        return EXIT_OK;
    bool servers = o->servers.n > 0;
    unsigned number = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *value, *name = strtok_r(line, " \t=", &value);
        number++;
        if (!name || *name == '#')
            continue;
        value += strspn(value, " \t=");
        value[strcspn(value, " \t\r")] = 0;
        if (!strcmp(name, "server") && *value) {
            if (!servers && o->servers.n < TW_ENDPOINT_SERVERS_MAX)
                o->servers.at[o->servers.n++] = value;
        } else if (!strcmp(name, "token") && *value) {
            o->token = o->token ? o->token : value;
        } else {
            fprintf(stderr, "thalweg: %s, line %u: what is \"%s\"? There are server URL and token TOKEN\n", path,
                    number, name);
            return EXIT_USAGE;
        }
    }
    return EXIT_OK;
}

int peer_take_servers(const struct peer_options *o, struct tw_endpoint_config *cfg)
{
    const char *why;
    if (o->servers.n > TW_ENDPOINT_SERVERS_MAX) {
        fprintf(stderr, "thalweg: at most %d servers\n", TW_ENDPOINT_SERVERS_MAX);
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < o->servers.n; i++) {
        if (tw_rdv_addr_parse(o->servers.at[i], &cfg->servers[i], &why)) {
            fprintf(stderr, "thalweg: --server %s: %s\n", o->servers.at[i], why);
            return EXIT_USAGE;
        }
        cfg->tokens[i] = o->token;
    }
    cfg->server_n = o->servers.n;
    return EXIT_OK;
}

int peer_read_servers(struct peer_options *o, struct tw_endpoint_config *cfg)
{
    int status = read_file(o);
    return status ? status : peer_take_servers(o, cfg);
}

/* Those that are used whatever a rendezvous recommends. */
static int find_ice_servers(const struct peer_options *o, struct tw_ice_config *ice)
{
    static struct tw_ice_server servers[TW_ICE_SERVERS_MAX];
    for (unsigned i = 0; i < o->ice_servers.n; i++) {
        struct tw_addr addrs[TW_RT_RESOLVED_MAX];
        struct tw_uri uri;
        unsigned n;
        bool turn = !strncmp(o->ice_servers.at[i], "turn", 4);
        if (turn && (!o->ice_user || !o->ice_password)) {
            fprintf(stderr, "thalweg: %s wants --ice-user and --ice-password\n", o->ice_servers.at[i]);
            return EXIT_USAGE;
        }
        int status = cmd_find_server(o->ice_servers.at[i], turn, NULL, &uri, addrs, &n);
        if (status)
            return status;
        for (unsigned k = 0; k < n && ice->server_n < TW_ICE_SERVERS_MAX; k++)
            servers[ice->server_n++] = (struct tw_ice_server){ .addr = addrs[k], .turn = turn, .transport = uri.transport,
                                                               .username = turn ? o->ice_user : NULL,
                                                               .password = turn ? o->ice_password : NULL };
    }
    ice->servers = servers;
    return EXIT_OK;
}

static int read_rungs(const char *list, unsigned *ret_rungs)
{
    *ret_rungs = 0;
    for (const char *at = list; at && *at;) {
        size_t n = strcspn(at, ",");
        unsigned rung = TW_RUNG_UDP;
        while (rung <= TW_RUNG_PATCHED &&
               (strlen(tw_rung_name((enum tw_rung)rung)) != n || strncmp(at, tw_rung_name((enum tw_rung)rung), n) != 0))
            rung++;
        if (rung > TW_RUNG_PATCHED) {
            fprintf(stderr, "thalweg: --rungs: there is no \"%.*s\"; there are udp, stun, tcp, http, https, relay, patched\n",
                    (int)n, at);
            return EXIT_USAGE;
        }
        *ret_rungs |= 1U << rung;
        at += n + (at[n] == ',');
    }
    return EXIT_OK;
}

/* --- life ------------------------------------------------------------------------------------------- */

static void close_all(struct peer *p)
{
    pipes_end(p);
    flows_end(p);
    hand_close(p);
    status_close(p->state);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&p->signals[i], NULL);
    tw_rt_endpoint_fini(&p->rt);
}

static void on_event(struct tw_rt_endpoint *r, const struct tw_endpoint_event *ev)
{
    struct peer *p = r->cfg.user;
    if (ev->type == TW_EP_CLOSED_ALL) {
        close_all(p);
        return;
    }
    say_event(p, ev);
    if (!p->ending && !pipe_event(p, ev) && !flow_event(p, ev))
        p->on_event(p, ev);
}

static void on_signal(uv_signal_t *s, int number)
{
    peer_end(s->data, 128 + number);
}

int peer_open(struct peer *p, const struct peer_options *given, struct tw_endpoint_config *cfg, bool stdout_is_data)
{
    static struct peer_options o;
    uint8_t seed[TW_SEED_SIZE];
    char path[4096];
    bool made;
    o = *given;
    p->o = &o;
    p->events = stdout_is_data ? stderr : stdout;
    p->begun = tw_rt_now();
    p->ladder = !o.json && isatty(2);
    p->logs = p->serves && !o.json && !p->ladder;
    struct tw_rt_endpoint_config rt = { .on_event = on_event, .on_note = on_note, .user = p };
    int status = peer_read_servers(&o, cfg);
    if (o.by_hand) /* whatever the configuration file says */
        cfg->server_n = 0;
    status = status ? status : find_ice_servers(&o, &cfg->ice);
    status = status ? status : read_rungs(o.rungs, &cfg->rungs);
    status = status ? status : proxy_read(o.proxy, &rt.proxy, &rt.no_proxy);
    rt.strict = o.strict_tls;
    rt.web = o.web;
    rt.sni = o.sni;
    rt.metered = o.metered;
    status = status || !o.ca ? status : cmd_read_ca(o.ca, &rt.ca);
    status = status ? status : key_load(o.key, seed, path, sizeof(path), &made);
    if (status)
        return status;
    if (made)
        peer_say(p, "thalweg: a new key was made: %s", path);
    if (o.keylog && !(p->keylog = fopen(o.keylog, "ae"))) {
        fprintf(stderr, "thalweg: --keylog %s: %s\n", o.keylog, strerror(errno));
        return EXIT_FAILED;
    }
    if (o.trace && access(o.trace, W_OK | X_OK)) {
        fprintf(stderr, "thalweg: --trace %s: %s\n", o.trace, strerror(errno));
        return EXIT_FAILED;
    }
    cfg->trace = o.trace ? on_trace : NULL;
    cfg->trace_ctx = (void *)(uintptr_t)o.trace;
    cfg->seed = seed;
    cfg->ice.no_mapping = o.no_mapping;
    cfg->lan = !o.no_lan && !o.relay_only && !o.by_hand;
    cfg->ice.policy = o.relay_only ? TW_ICE_RELAY_ONLY : TW_ICE_ALL;
    cfg->keylog = p->keylog ? on_keylog : NULL;
    cfg->keylog_ctx = p->keylog;
    rt.endpoint = *cfg;
    enum { FILES_EACH = 8 }; /* of a connection: sockets of its own, and pipes to what it is joined with */
    tw_rt_raise_files(FILES_EACH * (cfg->max_conns ? cfg->max_conns : 1024));
    p->loop = cmd_loop();
    int err = tw_rt_endpoint_init(&p->rt, p->loop, &rt);
    sodium_memzero(seed, sizeof(seed));
    if (err) {
        fprintf(stderr, "thalweg: cannot start: %s\n", tw_strerror(err));
        return EXIT_FAILED;
    }
    static const int numbers[] = { SIGINT, SIGTERM };
    for (int i = 0; i < 2; i++) {
        uv_signal_init(p->loop, &p->signals[i]);
        p->signals[i].data = p;
        uv_signal_start(&p->signals[i], on_signal, numbers[i]);
        uv_unref((uv_handle_t *)&p->signals[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    p->state = status_open(p);
    tw_rt_endpoint_start(&p->rt);
    return EXIT_OK;
}

int peer_can_be_found(struct peer *p, const struct tw_endpoint_config *cfg)
{
    if (p->o->by_hand) {
        peer_say(p, "Paste the line that \"thalweg ... --by-hand\" shows on the other side:");
        hand_open(p, p->events == stderr);
        return EXIT_OK;
    }
    if (cfg->server_n)
        return EXIT_OK;
    if (cfg->lan) {
        peer_say(p, "thalweg: no server is named (--server, or in ~/.config/thalweg/config), so only machines in this "
                    "network find this one");
        return EXIT_OK;
    }
    fprintf(stderr, "thalweg: at which server can others find this machine? Name one with --server, or in "
                    "~/.config/thalweg/config\n");
    return EXIT_NO_SERVER;
}

int peer_dial(struct peer *p, const char *text, struct tw_bytes early, uint32_t *ret_conn)
{
    struct tw_address a;
    const char *why;
    if (tw_address_parse(text, &a, &why)) {
        fprintf(stderr, "thalweg: \"%s\" is no address: %s\n", text, why);
        return EXIT_USAGE;
    }
    p->begun = tw_rt_now();
    int err = p->o->by_hand ? tw_endpoint_dial_by_hand(p->rt.endpoint, tw_rt_now(), &a, ret_conn)
                            : tw_endpoint_dial(p->rt.endpoint, tw_rt_now(), &a, early, ret_conn);
    if (!err && p->o->by_hand)
        hand_open(p, true);
    if (err == TW_ENOTFOUND)
        fprintf(stderr, "thalweg: which server is that key at? The address says none (KEY@SERVER), and neither does "
                        "--server, nor the configuration file\n");
    else if (err == TW_EINVAL)
        fprintf(stderr, "thalweg: that is this side's own key; the other machine's is needed\n");
    else if (err)
        fprintf(stderr, "thalweg: cannot dial: %s\n",
                err == TW_EMALFORMED ? "that key is not one that anybody can have" : tw_strerror(err));
    if (err)
        return err == TW_ENOTFOUND ? EXIT_NO_SERVER : EXIT_USAGE;
    tw_rt_endpoint_pump(&p->rt);
    return EXIT_OK;
}

int peer_status_of(const struct tw_endpoint_event *closed)
{
    switch (closed->code) {
    case TW_ENDPOINT_CODE_BYE:
        return EXIT_OK;
    case TW_ENDPOINT_CODE_ABSENT:
        return EXIT_ABSENT;
    case TW_ENDPOINT_CODE_REFUSED:
        return EXIT_REFUSED;
    case TW_ENDPOINT_CODE_SERVER:
        return EXIT_NO_SERVER;
    default:
        return EXIT_FAILED;
    }
}

void peer_end(struct peer *p, int status)
{
    if (p->ending) /* the second signal: at once */
        exit(status);
    p->ending = true;
    p->status = status;
    tw_endpoint_close(p->rt.endpoint, tw_rt_now());
    tw_rt_endpoint_pump(&p->rt);
}

int peer_run(struct peer *p)
{
    uv_run(p->loop, UV_RUN_DEFAULT);
    if (p->keylog)
        fclose(p->keylog);
    return p->status;
}
