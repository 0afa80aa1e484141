/* The file of invites. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "access.h"
#include "rt/file.h"
#include "rt/os.h"

enum { FILE_MAX = 1 << 16 };

static const char *path_of(const char *path, char *buf, size_t cap)
{
    return path ? path : config_path("invites", buf, cap) ? buf : "/dev/null";
}

int invites_read(const char *path, struct invites *ret)
{
    char buf[4096], *text, *save;
    size_t n;
    path = path_of(path, buf, sizeof(buf));
    ret->n = 0;
    if (tw_rt_read_file(path, FILE_MAX, &text, &n)) {
        if (errno == ENOENT)
            return EXIT_OK;
        fprintf(stderr, "thalweg: %s: %s\n", path, strerror(errno));
        return EXIT_FAILED;
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        struct invite i = { 0 };
        unsigned long long expires = 0;
        char secret[TW_INVITE_LEN + 1];
        if (*line == '#')
            continue;
        if (sscanf(line, "%26s %u %llu %40[^\n]", secret, &i.uses, &expires, i.name) < 3 ||
            tw_invite_parse(secret, i.secret) ||
            ret->n == INVITES_MAX) {
            fprintf(stderr, "thalweg: %s: \"%s\" is no invite, or one too many; it is left out\n", path, line);
            continue;
        }
        i.expires = expires;
        ret->at[ret->n++] = i;
    }
    free(text);
    return EXIT_OK;
}

int invites_write(const char *path, const struct invites *list)
{
    char buf[4096], text[INVITES_MAX * 120], secret[TW_INVITE_LEN + 1];
    size_t n = 0;
    path = path_of(path, buf, sizeof(buf));
    for (unsigned i = 0; i < list->n; i++) {
        tw_invite_format(list->at[i].secret, secret);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %u %llu %s\n", secret, list->at[i].uses,
                              (unsigned long long)list->at[i].expires, list->at[i].name);
    }
    if (!tw_rt_write_file(path, text, n, true))
        return EXIT_OK;
    fprintf(stderr, "thalweg: %s: %s\n", path, strerror(errno));
    return EXIT_FAILED;
}

bool invite_is_over(const struct invite *i)
{
    return i->uses == 0 || (i->expires && i->expires <= (uint64_t)time(NULL));
}

int invite_make(const char *path, struct invites *list, uint32_t uses, uint64_t expires, const char *name,
                struct invite **ret)
{
    struct tw_rng rng = tw_rt_rng();
    if (list->n == INVITES_MAX) { /* those that are over make room */
        unsigned kept = 0;
        for (unsigned i = 0; i < list->n; i++)
            if (!invite_is_over(&list->at[i]))
                list->at[kept++] = list->at[i];
        list->n = kept;
    }
    if (list->n == INVITES_MAX) {
        fprintf(stderr, "thalweg: there are %d invites already; revoke some\n", INVITES_MAX);
        return EXIT_FAILED;
    }
    struct invite *i = &list->at[list->n++];
    *i = (struct invite){ .uses = uses, .expires = expires };
    rng.fill(rng.ctx, i->secret, sizeof(i->secret));
    snprintf(i->name, sizeof(i->name), "%s", name ? name : "");
    for (char *c = i->name; *c; c++)
        *c = *c < ' ' || *c == 127 ? ' ' : *c;
    *ret = i;
    return invites_write(path, list);
}

bool invite_text(const struct tw_address *own, const struct invite *i, char text[TW_ADDRESS_TEXT_MAX])
{
    struct tw_address a = *own;
    a.invited = true;
    memcpy(a.invite, i->secret, TW_INVITE_SIZE);
    return tw_address_format(&a, text, TW_ADDRESS_TEXT_MAX) == 0;
}

bool invite_expiry(const char *text, uint64_t *ret)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    uint64_t unit = *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 0;
    *ret = 0;
    if (!strcmp(text, "never"))
        return true;
    if (!unit || end[1] || n == 0 || n > 1000000)
        return false;
    *ret = (uint64_t)time(NULL) + n * unit;
    return true;
}
