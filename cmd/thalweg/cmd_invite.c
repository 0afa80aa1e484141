#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "access.h"

static struct options {
    struct peer_options peer;
    unsigned uses;
    const char *expires, *file;
    bool json;
} o;

static void print_expiry(const struct invite *i, char *out, size_t cap)
{
    struct tm tm;
    time_t at = (time_t)i->expires;
    if (!i->expires)
        snprintf(out, cap, "never");
    else
        strftime(out, cap, "%Y-%m-%d %H:%M", localtime_r(&at, &tm));
}

static int new_invite(struct invites *list, const char *name)
{
    uint8_t seed[TW_SEED_SIZE];
    char path[4096], text[TW_ADDRESS_TEXT_MAX], when[32];
    struct tw_endpoint_config cfg = { 0 };
    struct tw_ident id;
    struct invite *made;
    uint64_t expires;
    bool new_key;
    if (!invite_expiry(o.expires, &expires)) {
        fprintf(stderr, "thalweg: --expires: say 30m, 12h, 7d or never, not \"%s\"\n", o.expires);
        return EXIT_USAGE;
    }
    int status = peer_read_servers(&o.peer, &cfg);
    status = status ? status : key_load(o.peer.key, seed, path, sizeof(path), &new_key);
    if (status || tw_ident_init(&id, seed))
        return status ? status : EXIT_FAILED;
    status = invite_make(o.file, list, o.uses, expires, name, &made);
    struct tw_address own = tw_address_of(&id.key, cfg.servers, cfg.server_n);
    bool ok = !status && invite_text(&own, made, text);
    sodium_memzero(seed, sizeof(seed));
    tw_ident_fini(&id);
    if (!ok)
        return status ? status : EXIT_FAILED;
    print_expiry(made, when, sizeof(when));
    if (o.json) {
        printf("{\"invite\":\"%s\",\"uses\":%u,\"expires\":%llu}\n", text, made->uses,
               (unsigned long long)made->expires);
    } else {
        puts(text);
        fprintf(stderr, "good for %u, until %s. Whoever has this line gets in: \"thalweg connect LINE\" there, while "
                        "\"thalweg listen\" runs here%s\n",
                made->uses, when,
                cfg.server_n ? "" : ".\nIt names no server; put one into ~/.config/thalweg/config, or say --server");
    }
    return EXIT_OK;
}

static int list_invites(const struct invites *list)
{
    for (unsigned i = 0; i < list->n; i++) {
        const struct invite *v = &list->at[i];
        char when[32], secret[TW_INVITE_LEN + 1];
        print_expiry(v, when, sizeof(when));
        tw_invite_format(v->secret, secret);
        if (o.json) {
            printf("{\"secret\":\"%s\",\"uses\":%u,\"expires\":%llu,\"over\":%s,\"name\":", secret, v->uses,
                   (unsigned long long)v->expires, invite_is_over(v) ? "true" : "false");
            cmd_json_string(stdout, v->name);
            puts("}");
        } else {
            printf("%.8s...  %3u left  until %-16s  %s%s\n", secret, v->uses, when, v->name,
                   invite_is_over(v) ? "  (over)" : "");
        }
    }
    if (!list->n && !o.json)
        fprintf(stderr, "there are none\n");
    return EXIT_OK;
}

/* which: a name, the beginning of a secret, of a whole invite, or "all". */
static int revoke_some(struct invites *list, const char *which)
{
    unsigned kept = 0, gone = 0;
    const char *plus = strchr(which, '+');
    const char *secret = plus ? plus + 1 : which;
    size_t n = strcspn(secret, "@");
    for (unsigned i = 0; i < list->n; i++) {
        const struct invite *v = &list->at[i];
        char text[TW_INVITE_LEN + 1];
        tw_invite_format(v->secret, text);
        bool hit = !strcmp(which, "all") || !strcmp(which, v->name) || (n >= 4 && !strncmp(secret, text, n));
        gone += hit;
        if (!hit)
            list->at[kept++] = *v;
    }
    list->n = kept;
    if (!gone) {
        fprintf(stderr, "thalweg: there is no invite \"%s\"; see \"thalweg invite list\"\n", which);
        return EXIT_FAILED;
    }
    int status = invites_write(o.file, list);
    if (!status)
        fprintf(stderr, "%u revoked. Who has come with one stays in: the allow file has them\n", gone);
    return status;
}

int cmd_invite(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg invite new [options] [NAME]\n"
        "       thalweg invite list [--json]\n"
        "       thalweg invite revoke NAME|SECRET|all\n\n"
        "An invite is an address with a secret: whoever dials it is let in, and its key is added to the allow\n"
        "file. A \"thalweg listen\" that runs here follows the list.\n\n";
    o.uses = 1;
    o.expires = "1d";
    const struct cmd_option options[] = {
        { "--uses", "N", &o.uses, 1, 100000, "how many it lets in (1)" },
        { "--expires", "TIME", &o.expires, 0, 0, "30m, 12h, 7d or never (1d)" },
        { "-s,--server", "URL", &o.peer.servers, 1, 0, "the rendezvous to dial at" },
        { "--key", "FILE", &o.peer.key, 0, 0, "the key file (default: ~/.config/thalweg/key)" },
        { "--invite-file", "FILE", &o.file, 0, 0, "the list (default: ~/.config/thalweg/invites)" },
        { "--json", NULL, &o.json, 0, 0, "as JSON" },
        { NULL },
    };
    struct cmd_operands args = { 1, 2, "new, list or revoke?", "" };
    struct invites list;
    bool done;
    int status = cmd_read_many(argc, argv, usage, options, &args, &done);
    if (status || done || (status = invites_read(o.file, &list)))
        return status;
    if (!strcmp(args.at[0], "new"))
        return new_invite(&list, args.at[1]);
    if (!strcmp(args.at[0], "list") && args.n == 1)
        return list_invites(&list);
    if (!strcmp(args.at[0], "revoke") && args.n == 2)
        return revoke_some(&list, args.at[1]);
    fprintf(stderr, "thalweg: invite %s: there are new [NAME], list, and revoke NAME|SECRET|all\n", args.at[0]);
    return EXIT_USAGE;
}
