#include "cmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <thalweg/error.h>

#include "rt/file.h"
#include "rt/resolve.h"

uv_loop_t *cmd_loop(void)
{
    uv_loop_t *loop = uv_default_loop();
    if (!loop) {
        fprintf(stderr, "thalweg: cannot start: no memory, or too many files are open\n");
        exit(EXIT_FAILED);
    }
    return loop;
}

/* --- options ------------------------------------------------------------------------------ */

/* "-u,--user" matches -u and --user; returns what stands behind "=", "" if nothing, NULL: no match. */
static const char *match(const char *names, const char *arg)
{
    const char *comma = strchr(names, ',');
    const char *longer = comma ? comma + 1 : names;
    size_t n = strlen(longer);
    if (comma && (size_t)(comma - names) == strlen(arg) && !strncmp(names, arg, strlen(arg)))
        return "";
    if (strncmp(arg, longer, n) != 0 || (arg[n] && arg[n] != '='))
        return NULL;
    return arg[n] ? arg + n + 1 : "";
}

static void print_help(const char *usage, const struct cmd_option *options)
{
    fputs(usage, stdout);
    for (; options->name; options++) {
        char head[64];
        snprintf(head, sizeof(head), "%s%s%s", options->name, options->arg ? " " : "",
                 options->arg ? options->arg : "");
        printf("  %-22s %s\n", head, options->help);
    }
}

static int set(const struct cmd_option *o, const char *value)
{
    struct cmd_list *list = o->to;
    if (!o->max && o->min) {
        if (list->n == sizeof(list->at) / sizeof(list->at[0])) {
            fprintf(stderr, "thalweg: too many of %s\n", o->name);
            return EXIT_USAGE;
        }
        list->at[list->n++] = value;
        return EXIT_OK;
    }
    if (!o->max) {
        *(const char **)o->to = value;
        return EXIT_OK;
    }
    char *end;
    unsigned long v = strtoul(value, &end, 10);
    if (end == value || *end || *value == '-' || v < o->min || v > o->max) {
        fprintf(stderr, "thalweg: %s must be a number from %u to %u, not \"%s\"\n", o->name, o->min,
                o->max, value);
        return EXIT_USAGE;
    }
    *(unsigned *)o->to = (unsigned)v;
    return EXIT_OK;
}

/* One option at argv[*i]; moves *i over its value. */
static int read_option(int argc, char **argv, int *i, const struct cmd_option *options)
{
    for (const struct cmd_option *o = options; o->name; o++) {
        const char *value = match(o->name, argv[*i]);
        if (!value)
            continue;
        if (!o->arg) {
            *(bool *)o->to = true;
            return EXIT_OK;
        }
        if (*value)
            return set(o, value);
        if (*i + 1 < argc)
            return set(o, argv[++*i]);
        fprintf(stderr, "thalweg: %s needs a value: %s\n", o->name, o->arg);
        return EXIT_USAGE;
    }
    fprintf(stderr, "thalweg: unknown option %s; see --help\n", argv[*i]);
    return EXIT_USAGE;
}

int cmd_read_many(int argc, char **argv, const char *usage, const struct cmd_option *options,
                  struct cmd_operands *operands, bool *ret_done)
{
    const unsigned room = sizeof(operands->at) / sizeof(operands->at[0]);
    unsigned max = operands->max < room ? operands->max : room;
    *ret_done = false;
    operands->n = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(usage, options);
            *ret_done = true;
            return EXIT_OK;
        }
        if (argv[i][0] == '-' && argv[i][1]) {
            int status = read_option(argc, argv, &i, options);
            if (status)
                return status;
        } else if (operands->n == max) {
            fprintf(stderr, "thalweg: %swhat is \"%s\"? See --help\n", operands->too_many, argv[i]);
            return EXIT_USAGE;
        } else {
            operands->at[operands->n++] = argv[i];
        }
    }
    if (operands->n < operands->min) {
        fprintf(stderr, "thalweg: %s; see --help\n", operands->missing);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

int cmd_read(int argc, char **argv, const char *usage, const struct cmd_option *options,
             const char **ret_operand, bool *ret_done)
{
    char missing[100];
    struct cmd_operands one = { .min = ret_operand != NULL, .max = ret_operand != NULL, .missing = missing,
                                .too_many = ret_operand ? "one server at a time: " : "" };
    snprintf(missing, sizeof(missing), "which server? For example %s:turn.example.org", argv[0]);
    int status = cmd_read_many(argc, argv, usage, options, &one, ret_done);
    if (ret_operand)
        *ret_operand = one.at[0];
    return status;
}

/* --- servers ------------------------------------------------------------------------------ */

int cmd_find_server(const char *text, bool turn, const char *family, struct tw_uri *ret_uri,
                    struct tw_addr *ret_addrs, unsigned *ret_n)
{
    char with_scheme[512];
    const char *why;
    enum { WAIT_MS = 5000 };
    enum tw_family want = !family ? TW_FAMILY_NONE
                          : !strcmp(family, "4") ? TW_FAMILY_V4 : TW_FAMILY_V6;
    if (family && strcmp(family, "4") != 0 && strcmp(family, "6") != 0) {
        fprintf(stderr, "thalweg: --family must be 4 or 6\n");
        return EXIT_USAGE;
    }
    if (!strncmp(text, "stun", 4) || !strncmp(text, "turn", 4))
        snprintf(with_scheme, sizeof(with_scheme), "%s", text);
    else /* people type host names */
        snprintf(with_scheme, sizeof(with_scheme), "%s:%s", turn ? "turn" : "stun", text);
    if (tw_uri_parse(with_scheme, ret_uri, &why)) {
        fprintf(stderr, "thalweg: \"%s\" is not a server's URI: %s\n", text, why);
        return EXIT_USAGE;
    }
    if (ret_uri->turn != turn) {
        fprintf(stderr, "thalweg: this needs a %s: URI\n", turn ? "turn" : "stun");
        return EXIT_USAGE;
    }
    int err = tw_rt_resolve(ret_uri, want, WAIT_MS, ret_addrs, ret_n);
    if (err) {
        fprintf(stderr, "thalweg: cannot find %s: %s\n", ret_uri->host,
                err == TW_ENOTFOUND ? "there is no such name, or it has no address of that family"
                                    : tw_strerror(err));
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* --- connections -------------------------------------------------------------------------- */

int cmd_read_ca(const char *path, struct tw_bytes *ret)
{
    static char *text; /* until the process ends */
    size_t n;
    if (tw_rt_read_file(path, 1 << 20, &text, &n)) {
        fprintf(stderr, "thalweg: --ca: cannot read %s\n", path);
        return EXIT_USAGE;
    }
    *ret = tw_bytes(text, n);
    return EXIT_OK;
}

int cmd_link_config(const struct tw_uri *uri, const struct tw_addr *server,
                    const struct cmd_tls *tls, struct tw_rt_link_config *ret)
{
    static struct tw_rt_tls *cred; /* one for all connections, until the process ends */
    struct tw_bytes ca = { 0 };
    const char *why;
    *ret = (struct tw_rt_link_config){ .transport = uri->transport, .server = *server,
                                       .host = tls->insecure ? NULL : uri->host };
    if (uri->transport == TW_TRANSPORT_TCP)
        return EXIT_OK;
    if (!cred && tls->ca && cmd_read_ca(tls->ca, &ca))
        return EXIT_USAGE;
    if (!cred && tw_rt_tls_new_client(ca, &cred, &why)) {
        fprintf(stderr, "thalweg: %s\n", why);
        return EXIT_FAILED;
    }
    ret->tls = cred;
    return EXIT_OK;
}

int cmd_agent(struct tw_rt_agent *a, uv_loop_t *loop, const struct tw_uri *uri,
              const struct tw_addr *server, const struct cmd_tls *tls,
              const struct tw_rt_machine *ops, void *machine,
              void (*on_events)(struct tw_rt_agent *a, tw_time now))
{
    struct tw_addr any = { .family = server->family };
    struct tw_rt_link_config how;
    if (uri->transport == TW_TRANSPORT_UDP) {
        if (!tw_rt_agent_init(a, loop, &any, ops, machine, on_events))
            return EXIT_OK;
    } else {
        int status = cmd_link_config(uri, server, tls, &how);
        if (status)
            return status;
        if (!tw_rt_agent_connect(a, loop, &how, ops, machine, on_events))
            return EXIT_OK;
    }
    fprintf(stderr, "thalweg: no %s socket: %s\n", tw_transport_name(uri->transport),
            strerror(errno));
    return EXIT_FAILED;
}

void cmd_json_string(FILE *to, const char *s)
{
    fputc('"', to);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(to, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(to, "\\u%04x", (unsigned char)*s);
        else
            fputc(*s, to);
    }
    fputc('"', to);
}
