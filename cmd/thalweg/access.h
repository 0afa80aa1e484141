/* Who is let in: options, the allow file, the invites; the files are followed while the program runs. */
#ifndef THALWEG_ACCESS_H
#define THALWEG_ACCESS_H

#include "peer.h"

struct access {
    struct cmd_list allow;
    const char *allow_file, *invite_file;
    bool allow_any, unlisted;
    struct peer *peer;
    uv_fs_poll_t watch[2];   /* of the allow file and the invites, */
    bool there[2];           /* if there are any */
};

#define ACCESS_OPTIONS(a)                                                                                 \
    { "--allow", "ADDRESS", &(a)->allow, 1, 0, "let this one in; repeat" },                               \
    { "--allow-file", "FILE", &(a)->allow_file, 0, 0, "let these in (default: ~/.config/thalweg/allow)" }, \
    { "--allow-any", NULL, &(a)->allow_any, 0, 0, "let everybody in" },                                   \
    { "--unlisted", NULL, &(a)->unlisted, 0, 0, "be found by invites only, not by the key" }

/* Between peer_open() and peer_run(). Returns an exit status, after a complaint. */
int access_open(struct access *a, struct peer *p);
/* Of every event of the endpoint: an invite that was used lets its bearer in for good. */
void access_event(struct access *a, const struct tw_endpoint_event *ev);

/* --- the file of invites: SECRET USES EXPIRES NAME, one a line ------------------------------------------- */

enum { INVITE_NAME_MAX = 40, INVITES_MAX = TW_ENDPOINT_INVITES_MAX };

struct invite {
    uint8_t secret[TW_INVITE_SIZE];
    uint32_t uses;
    uint64_t expires;    /* seconds since 1970; 0: never */
    char name[INVITE_NAME_MAX + 1];
};

struct invites {
    struct invite at[INVITES_MAX];
    unsigned n;
};

/* path NULL: ~/.config/thalweg/invites. No file: no invites. Complains; EXIT_OK or EXIT_FAILED. */
int invites_read(const char *path, struct invites *ret);
int invites_write(const char *path, const struct invites *list);
bool invite_is_over(const struct invite *i);
/* Makes one; adds it to the list and the file. Complains. */
int invite_make(const char *path, struct invites *list, uint32_t uses, uint64_t expires, const char *name,
                struct invite **ret);
/* This machine's address, own, with it. false: it does not fit. */
bool invite_text(const struct tw_address *own, const struct invite *i, char text[TW_ADDRESS_TEXT_MAX]);
/* "30m", "12h", "7d", "never". False: none of them. */
bool invite_expiry(const char *text, uint64_t *ret_expires);

#endif
