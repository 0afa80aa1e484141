/* thalweg ice: two machines connected by ICE, their descriptions carried by hand or by a program. */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rt/ice.h"
#include "rt/os.h"
#include "rt/resolve.h"

static const char usage[] =
    "usage: thalweg ice [options]\n\n"
    "Gathers this machine's candidates, prints them as SDP attributes and an empty line, reads the\n"
    "peer's from standard input up to an empty line, and connects (RFC 8445). After that each line of\n"
    "input is sent to the peer, and what comes is printed. Any ICE agent may be the peer; one of the\n"
    "two runs with --answer. Exits with 0 when there was a path, 1 when not, 2 on wrong usage.\n\n"
    "Options:\n";

static struct {
    bool answer, json, trickle, echo, relay_only, no_host, no_udp, tcp, lite, no_probe, no_mapping,
        foreign, explain, tape_addresses;
    const char *tape;
    const char *user, *password, *allow, *deny;
    struct cmd_list servers;
    unsigned pings, timeout_s, components;
    struct cmd_tls tls;
} opt;

enum { INPUT_MAX = 1 << 16, PING_GAP_MS = 20,
       FIRST_PING_MS = 200 /* other agents take data when they have chosen a pair themselves */ };

static struct {
    struct tw_rt_ice rt;
    uv_loop_t *loop;
    union {
        uv_pipe_t pipe;
        uv_tty_t tty;
        uv_stream_t stream;
    } in;
    bool has_in, eof, told, heard, connected, closing, was_connected;
    char input[INPUT_MAX];
    size_t input_n;
    char sdp[INPUT_MAX];    /* the peer's, until it is whole */
    size_t sdp_n;
    uv_timer_t timer;       /* of --timeout, later of pings */
    uv_signal_t interrupt, terminate;
    tw_time began, connected_after, first_byte_after;
    bool own;               /* the peer is of our kind */
    unsigned sent, echoed;
    tw_time *rtts;
    int status;
} c;

/* --- saying ------------------------------------------------------------------------------------ */

static void say(const char *event, const char *key, const char *value)
{
    printf("{\"event\":\"%s\",\"%s\":", event, key);
    cmd_json_string(stdout, value);
    puts("}");
    fflush(stdout);
}

static void explain(void)
{
    char text[16384];
    tw_ice_explain(c.rt.ice, text, sizeof(text));
    if (opt.json)
        say("explanation", "text", text);
    else
        fputs(text, stderr);
}

static void tell_sdp(void)
{
    static char text[INPUT_MAX];
    size_t n;
    if (tw_ice_write_sdp(c.rt.ice, 0, text, sizeof(text), &n))
        return;
    c.told = true;
    if (opt.json)
        say("sdp", "sdp", text);
    else
        printf("%s%s", text, opt.trickle ? "" : "\r\n");
    fflush(stdout);
}

static void tell_candidate(const struct tw_ice_candidate *cand)
{
    char line[TW_ICE_LINE_MAX];
    if (!c.told || tw_ice_write_candidate(cand, line, sizeof(line)))
        return;
    if (opt.json)
        say("candidate", "candidate", line);
    else
        printf("a=%s\r\n", line);
    fflush(stdout);
}

static const char *kind(const struct tw_ice_path *p)
{
    if (p->local_type == TW_ICE_RELAY || p->remote_type == TW_ICE_RELAY)
        return "relayed";
    return p->transport == TW_ICE_UDP ? "direct" : "direct over TCP";
}

static void tell_path(const struct tw_ice_event *ev)
{
    static const char *const types[] = { "host", "srflx", "prflx", "relay" };
    const struct tw_ice_path *p = &ev->path;
    char l[TW_ADDR_STRLEN], r[TW_ADDR_STRLEN];
    tw_addr_format(&p->local, l);
    tw_addr_format(&p->remote, r);
    if (opt.json) {
        printf("{\"event\":\"path\",\"component\":%u,\"kind\":\"%s\",\"local\":\"%s\",\"local_type\":\"%s\","
               "\"remote\":\"%s\",\"remote_type\":\"%s\",\"rtt_ms\":%.3f,\"after_ms\":%.3f}\n",
               ev->component, kind(p), l, types[p->local_type], r, types[p->remote_type],
               (double)p->rtt / 1e6, (double)(tw_rt_now() - c.began) / 1e6);
        fflush(stdout);
    } else {
        fprintf(stderr, "path: %s, %s (%s) to %s (%s), round trip %.1f ms\n", kind(p), l,
                types[p->local_type], r, types[p->remote_type], (double)p->rtt / 1e6);
    }
}

/* --- the end ----------------------------------------------------------------------------------- */

static void finish(int status)
{
    if (c.closing)
        return;
    c.closing = true;
    c.status = status;
    if (opt.explain && status == EXIT_OK) /* otherwise that has been said */
        explain();
    tw_ice_close(c.rt.ice, tw_rt_now());
    tw_rt_ice_pump(&c.rt);
}

static void shut(void)
{
    tw_rt_ice_fini(&c.rt);
    uv_close((uv_handle_t *)&c.timer, NULL);
    uv_close((uv_handle_t *)&c.interrupt, NULL);
    uv_close((uv_handle_t *)&c.terminate, NULL);
    if (c.has_in)
        uv_close((uv_handle_t *)&c.in.stream, NULL);
}

static void on_interrupt(uv_signal_t *s, int signum)
{
    (void)s, (void)signum;
    finish(c.was_connected ? EXIT_OK : EXIT_FAILED);
}

/* --- pings ------------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    tw_time x = *(const tw_time *)a, y = *(const tw_time *)b;
    return x < y ? -1 : x > y;
}

static void report_pings(void)
{
    qsort(c.rtts, c.echoed, sizeof(*c.rtts), by_time);
    double median = c.echoed ? (double)c.rtts[c.echoed / 2] / 1e6 : 0;
    if (opt.json)
        printf("{\"event\":\"pings\",\"sent\":%u,\"echoed\":%u,\"rtt_ms\":%.3f,\"first_after_ms\":%.3f}\n",
               c.sent, c.echoed, median, (double)c.first_byte_after / 1e6);
    else
        fprintf(stderr, "%u of %u pings came back, median %.1f ms, the first %.1f ms after the peer's description\n",
                c.echoed, c.sent, median, (double)c.first_byte_after / 1e6);
    fflush(stdout);
    finish(c.echoed ? EXIT_OK : EXIT_FAILED);
}

static void on_ping(uv_timer_t *t)
{
    char text[64];
    if (c.closing)
        return;
    if (c.sent == opt.pings) {
        report_pings();
        return;
    }
    int n = snprintf(text, sizeof(text), "ping %u %lld", c.sent, (long long)tw_rt_now());
    if (!tw_ice_send(c.rt.ice, tw_rt_now(), 0, 1, tw_bytes(text, (size_t)n), 0))
        c.sent++;
    tw_rt_ice_pump(&c.rt);
    uv_timer_start(t, on_ping, c.sent == opt.pings ? 1000 : PING_GAP_MS, 0);
}

static bool is_echo(struct tw_bytes data)
{
    char text[64];
    unsigned n;
    long long at;
    if (!opt.pings || data.n >= sizeof(text))
        return false;
    memcpy(text, data.p, data.n);
    text[data.n] = 0;
    if (sscanf(text, "ping %u %lld", &n, &at) != 2 || c.echoed >= opt.pings)
        return false;
    if (!c.echoed)
        c.first_byte_after = tw_rt_now() - c.began;
    c.rtts[c.echoed++] = tw_rt_now() - at;
    if (c.echoed == opt.pings)
        report_pings();
    return true;
}

/* --- the agent --------------------------------------------------------------------------------- */

static void on_data(const struct tw_ice_event *ev)
{
    static char text[65537];
    if (opt.echo) {
        (void)!tw_ice_send(c.rt.ice, tw_rt_now(), ev->stream, ev->component, ev->data, 0);
        return;
    }
    if (is_echo(ev->data) || ev->data.n >= sizeof(text))
        return;
    memcpy(text, ev->data.p, ev->data.n);
    text[ev->data.n] = 0;
    if (opt.json)
        say("data", "text", text);
    else
        puts(text);
    fflush(stdout);
}

static void read_lines(void);

static void on_connected(void)
{
    c.connected = c.was_connected = true;
    if (!c.connected_after)
        c.connected_after = tw_rt_now() - c.began;
    if (opt.json)
        printf("{\"event\":\"connected\",\"after_ms\":%.3f}\n", (double)c.connected_after / 1e6);
    else
        fprintf(stderr, "connected after %.1f ms\n", (double)c.connected_after / 1e6);
    fflush(stdout);
    uv_timer_stop(&c.timer);
    if (opt.pings)
        uv_timer_start(&c.timer, on_ping, c.own ? 0 : FIRST_PING_MS, 0);
    read_lines();
}

static void on_event(struct tw_rt_ice *r, const struct tw_ice_event *ev)
{
    (void)r;
    switch (ev->type) {
    case TW_ICE_CANDIDATE:
        tell_candidate(&ev->candidate);
        break;
    case TW_ICE_GATHERED:
        if (!c.told)
            tell_sdp();
        else if (opt.trickle && !opt.json)
            puts("a=end-of-candidates\r");
        fflush(stdout);
        break;
    case TW_ICE_CONNECTED:
        on_connected();
        break;
    case TW_ICE_PATH:
        tell_path(ev);
        break;
    case TW_ICE_DATA:
        on_data(ev);
        break;
    case TW_ICE_DISCONNECTED:
        c.connected = false;
        if (opt.json)
            puts("{\"event\":\"disconnected\"}");
        else
            fputs("the path is lost; looking for another\n", stderr);
        break;
    case TW_ICE_SILENCE:
        break;
    case TW_ICE_FAILED:
        explain();
        finish(EXIT_FAILED);
        break;
    case TW_ICE_CLOSED:
        shut();
        break;
    default:
        break;
    }
}

/* --- input ------------------------------------------------------------------------------------- */

static void take_sdp(const char *text)
{
    const char *why;
    int err = tw_ice_read_sdp(c.rt.ice, tw_rt_now(), text, &why);
    if (err && !(err == TW_ENOTFOUND && c.heard)) {
        fprintf(stderr, "thalweg: this is no description of an ICE agent: %s: %.*s\n",
                err == TW_ENOTFOUND ? "no a=ice-ufrag and a=ice-pwd in it" : tw_strerror(err),
                (int)strcspn(why, "\r\n"), why);
        finish(EXIT_USAGE);
        return;
    }
    if (!c.heard)
        c.began = tw_rt_now();
    c.own = c.own || strstr(text, "thalweg");
    c.heard = true;
}

/* Before the description is whole its lines are collected. */
static void take_line(char *line)
{
    size_t n = strlen(line);
    bool blank = n == 0;
    if (c.heard) {
        if (!strncmp(line, "a=", 2))
            take_sdp(line);
        else if (!blank)
            (void)!tw_ice_send(c.rt.ice, tw_rt_now(), 0, 1, tw_bytes(line, n), 0);
        return;
    }
    if (!blank && c.sdp_n + n + 3 < sizeof(c.sdp))
        c.sdp_n += (size_t)snprintf(c.sdp + c.sdp_n, sizeof(c.sdp) - c.sdp_n, "%s\r\n", line);
    if ((blank && c.sdp_n) || !strncmp(line, "a=end-of-candidates", 19) ||
        (opt.trickle && strstr(c.sdp, "a=ice-ufrag:") && strstr(c.sdp, "a=ice-pwd:") &&
         strstr(c.sdp, "a=ice-options:")))
        take_sdp(c.sdp);
}

/* What is to be sent waits for a path. */
static void read_lines(void)
{
    char *from = c.input, *end;
    while (!c.closing && (end = memchr(from, '\n', c.input_n - (size_t)(from - c.input)))) {
        if (c.heard && !c.connected && strncmp(from, "a=", 2) != 0 && *from != '\r' && *from != '\n')
            break;
        *end = 0;
        if (end > from && end[-1] == '\r')
            end[-1] = 0;
        take_line(from);
        from = end + 1;
    }
    c.input_n -= (size_t)(from - c.input);
    memmove(c.input, from, c.input_n);
    if (c.closing)
        return;
    if (c.eof && !c.heard && c.sdp_n)
        take_sdp(c.sdp);
    if (c.eof && !c.heard && !c.sdp_n) {
        fputs("thalweg: the input ended without the peer's description\n", stderr);
        finish(EXIT_USAGE);
    } else if (c.eof && c.was_connected && !opt.pings && (c.has_in || !opt.echo)) {
        finish(EXIT_OK);
    }
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *buf)
{
    (void)h, (void)want;
    *buf = uv_buf_init(c.input + c.input_n, (unsigned)(sizeof(c.input) - c.input_n));
}

static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    if (n > 0)
        c.input_n += (size_t)n;
    if (n < 0) {
        c.eof = true;
        uv_read_stop(s);
    }
    read_lines();
    if (!c.closing)
        tw_rt_ice_pump(&c.rt);
}

static void open_input(void)
{
    c.has_in = true;
    switch (uv_guess_handle(STDIN_FILENO)) {
    case UV_TTY:
        uv_tty_init(c.loop, &c.in.tty, STDIN_FILENO, 1);
        break;
    case UV_FILE:
        c.has_in = false;
        c.input_n = fread(c.input, 1, sizeof(c.input), stdin);
        c.eof = true;
        return;
    default:
        uv_pipe_init(c.loop, &c.in.pipe, 0);
        uv_pipe_open(&c.in.pipe, STDIN_FILENO);
        break;
    }
    uv_read_start(&c.in.stream, on_alloc, on_input);
}

/* --- start ------------------------------------------------------------------------------------- */

/* All addresses of the servers named, as far as there is room. */
static int find_servers(struct tw_ice_server *servers, struct tw_rt_ice_config *cfg,
                        struct tw_uri *uris)
{
    for (unsigned i = 0; i < opt.servers.n; i++) {
        struct tw_addr addrs[TW_RT_RESOLVED_MAX];
        unsigned n;
        bool turn = !strncmp(opt.servers.at[i], "turn", 4);
        int status = cmd_find_server(opt.servers.at[i], turn, NULL, &uris[i], addrs, &n);
        if (status)
            return status;
        if (turn && (!opt.user || !opt.password))
            fprintf(stderr, "thalweg: no -u and -w for %s\n", opt.servers.at[i]);
        for (unsigned k = 0; k < n && cfg->ice.server_n < TW_ICE_SERVERS_MAX; k++) {
            struct tw_rt_link_config link;
            size_t at = cfg->ice.server_n++;
            servers[at] = (struct tw_ice_server){ .addr = addrs[k], .turn = turn,
                                                  .transport = uris[i].transport,
                                                  .username = opt.user,
                                                  .password = opt.password };
            if (uris[i].transport == TW_TRANSPORT_UDP)
                continue;
            status = cmd_link_config(&uris[i], &addrs[k], &opt.tls, &link);
            if (status)
                return status;
            cfg->tls[at] = link.tls;
            cfg->host[at] = link.host;
        }
    }
    cfg->ice.servers = servers;
    return EXIT_OK;
}

static void on_timeout(uv_timer_t *t)
{
    (void)t;
    if (c.connected)
        return;
    fprintf(stderr, "thalweg: no path in %u s\n", opt.timeout_s);
    explain();
    finish(EXIT_FAILED);
}

static void write_tape(void *ctx, const char *line)
{
    fputs(line, ctx);
    fputc('\n', ctx);
}

static int run(struct tw_rt_ice_config *cfg)
{
    c.loop = cmd_loop();
    c.status = EXIT_FAILED;
    c.rtts = calloc(opt.pings + 1, sizeof(*c.rtts));
    int err = c.rtts ? tw_rt_ice_init(&c.rt, c.loop, cfg) : TW_ENOMEM;
    if (err) {
        fprintf(stderr, "thalweg: %s\n", tw_strerror(err));
        return EXIT_FAILED;
    }
    uv_timer_init(c.loop, &c.timer);
    uv_signal_init(c.loop, &c.interrupt);
    uv_signal_init(c.loop, &c.terminate);
    uv_signal_start(&c.interrupt, on_interrupt, SIGINT);
    uv_signal_start(&c.terminate, on_interrupt, SIGTERM);
    if (opt.timeout_s)
        uv_timer_start(&c.timer, on_timeout, opt.timeout_s * 1000ull, 0);
    c.began = tw_rt_now();
    open_input();
    tw_rt_ice_start(&c.rt);
    if (opt.trickle) {
        tell_sdp();
        tw_rt_ice_pump(&c.rt);
    }
    if (!c.has_in) {
        read_lines();
        tw_rt_ice_pump(&c.rt);
    }
    uv_run(c.loop, UV_RUN_DEFAULT);
    uv_loop_close(c.loop);
    free(c.rtts);
    return c.status;
}

int cmd_ice(int argc, char **argv)
{
    const struct cmd_option options[] = {
        { "--answer", NULL, &opt.answer, 0, 0, "be the controlled agent; without it, the controlling" },
        { "-s,--server", "URI", &opt.servers, 1, 0, "a stun: or turn: server; may be given again" },
        { "-u,--user", "NAME", &opt.user, 0, 0, "user name on TURN servers" },
        { "-w,--password", "TEXT", &opt.password, 0, 0, "password on TURN servers" },
        { "--trickle", NULL, &opt.trickle, 0, 0, "print candidates as they come, and take the peer's so" },
        { "--tcp", NULL, &opt.tcp, 0, 0, "also candidates over TCP (RFC 6544)" },
        { "--no-udp", NULL, &opt.no_udp, 0, 0, "only TCP, and relays over TCP or TLS" },
        { "--relay-only", NULL, &opt.relay_only, 0, 0, "tell and use no address but the relay's" },
        { "--no-host", NULL, &opt.no_host, 0, 0, "do not tell this machine's own addresses" },
        { "--interfaces", "LIST", &opt.allow, 0, 0, "only these, such as eth0,wlan*" },
        { "--not-interfaces", "LIST", &opt.deny, 0, 0, "all but these" },
        { "--no-probe", NULL, &opt.no_probe, 0, 0, "do not probe ports of the peer's NAT" },
        { "--no-port-mapping", NULL, &opt.no_mapping, 0, 0, "ask no gateway for one (PCP, NAT-PMP, UPnP)" },
        { "--lite", NULL, &opt.lite, 0, 0, "be a lite agent: only with a public address" },
        { "--rfc", NULL, &opt.foreign, 0, 0, "speak plain RFC 8445 even with our own kind" },
        { "--components", "N", &opt.components, 1, TW_ICE_COMPONENTS_MAX, "how many (default 1)" },
        { "--echo", NULL, &opt.echo, 0, 0, "send back all that comes" },
        { "--pings", "N", &opt.pings, 1, 100000, "send N pings, report, and end" },
        { "--timeout", "S", &opt.timeout_s, 1, 86400, "give up after so long (default: when all failed)" },
        CMD_TLS_OPTIONS(&opt.tls),
        { "--tape", "FILE", &opt.tape, 0, 0, "write down what goes in, for a bug report; addresses are replaced" },
        { "--tape-addresses", NULL, &opt.tape_addresses, 0, 0, "... and leave them as they are" },
        { "--explain", NULL, &opt.explain, 0, 0, "say at the end what was tried and what came of it" },
        { "--json", NULL, &opt.json, 0, 0, "print one line of JSON for each event" },
        { 0 },
    };
    struct tw_ice_server servers[TW_ICE_SERVERS_MAX];
    static struct tw_uri uris[16];
    bool done;
    int status = cmd_read(argc, argv, usage, options, NULL, &done);
    if (status || done)
        return status;
    if (opt.relay_only && opt.no_host) {
        fputs("thalweg: --relay-only implies --no-host; give one of them\n", stderr);
        return EXIT_USAGE;
    }
    struct tw_rt_ice_config cfg = {
        .ice = { .controlling = !opt.answer, .lite = opt.lite, .foreign = opt.foreign,
                 .no_udp = opt.no_udp, .tcp = opt.tcp || opt.no_udp, .no_probing = opt.no_probe,
                 .no_mapping = opt.no_mapping,
                 .components = opt.components, .allow = opt.allow, .deny = opt.deny,
                 .policy = opt.relay_only ? TW_ICE_RELAY_ONLY
                           : opt.no_host  ? TW_ICE_NO_HOST : TW_ICE_ALL },
        .on_event = on_event,
    };
    FILE *tape = opt.tape ? fopen(opt.tape, "w") : NULL;
    if (opt.tape && !tape) {
        fprintf(stderr, "thalweg: %s: %s\n", opt.tape, strerror(errno));
        return EXIT_USAGE;
    }
    if (tape)
        cfg.ice.tape = (struct tw_ice_tape){ write_tape, tape, opt.tape_addresses };
    status = find_servers(servers, &cfg, uris);
    if (!status)
        status = run(&cfg);
    if (tape && fclose(tape)) {
        fprintf(stderr, "thalweg: %s: %s\n", opt.tape, strerror(errno));
        status = EXIT_FAILED;
    }
    return status;
}
