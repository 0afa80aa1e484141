/* Files over a stream: docs/protocol.md §6.3. One side has them and one gets them; either may have dialled. */
#ifndef THALWEG_FILES_H
#define THALWEG_FILES_H

#include <sodium.h>

#include "peer.h"

enum {
    FILES_MAX = 100000,          /* entries of one transfer */
    FILES_NAMES_MAX = 32 << 20,  /* bytes of their names */
    FILES_NAME_MAX = 4096,
    FILES_HASH = 32,             /* BLAKE2b */
    FILES_PIECE = 65536,
    FILES_SLICE = 1 << 20,       /* hashed at one go, before others get their turn */
};
#define FILES_NOT UINT64_MAX     /* instead of a length: it is not wanted, or not given */

enum files_type {
    FILES_ENTRY = 1,  /* kind, mode, size, mtime, name */
    FILES_LIST_END,
    FILES_WANT,       /* back: index, the length that is there, its hash, whether only if the rest is the same, too */
    FILES_BEGIN,      /* index, from where */
    FILES_BYTES,
    FILES_END,        /* the hash of the whole file */
    FILES_BROKEN,     /* why: it ends in the middle */
    FILES_RESULT,     /* back: index, 0 done or 1 was there or 2 not, why */
};
enum files_kind { FILES_FOLDER = 1, FILES_FILE };
enum files_result { FILES_DONE, FILES_WAS_THERE, FILES_FAILED };

struct files_entry {
    enum files_kind kind;
    unsigned mode;               /* permission bits */
    uint64_t size, mtime;        /* mtime: seconds since 1970 */
    char *name;                  /* as sent: relative, with slashes */
    char *path;                  /* where it is; of the sender's */
};

struct files_list {
    struct files_entry *at;
    unsigned n, files;
    size_t names;                /* bytes */
    uint64_t bytes;
};

/* Takes the memory of the name and path. False: too many, or no memory. */
bool files_add(struct files_list *l, const struct files_entry *e);
void files_free(struct files_list *l);
/* NULL: a good name; else what is wrong. */
const char *files_name_fault(const char *name, size_t n);
/* A name as it can be shown on a terminal; static. */
const char *files_shown(const char *name);

/* --- messages ------------------------------------------------------------------------------------- */

enum { FILES_HEAD = 5, FILES_MESSAGE_MAX = FILES_NAME_MAX + 64 };

/* A stream's bytes, cut into messages; those of FILES_BYTES are not collected. */
struct files_in {
    uint8_t buf[FILES_HEAD + FILES_MESSAGE_MAX];
    size_t n;
    uint64_t raw;                /* bytes of a FILES_BYTES to come */
};
struct files_out {
    uint8_t *buf;
    size_t at, n, cap;
};
/* 1: a message: type and body, a view until the next call; 0: nothing whole yet; -1: nothing follows, or nonsense. Of
 * FILES_BYTES the body is what has come of it, and is taken by files_took(). */
int files_hear(struct peer *p, uint32_t conn, int64_t stream, struct files_in *in, unsigned *ret_type,
               struct tw_bytes *ret_body);
void files_took(struct peer *p, uint32_t conn, int64_t stream, struct files_in *in, size_t n);
/* Room for a message of up to n bytes, which files_said() completes. NULL: no memory. */
uint8_t *files_say(struct files_out *o, unsigned type, size_t n);
void files_said(struct files_out *o, size_t n);
/* True: all of it is with the stream. -1 in *ret_err: the stream is gone. */
bool files_flush(struct peer *p, uint32_t conn, int64_t stream, struct files_out *o, bool *ret_gone);

/* --- progress ---------------------------------------------------------------------------------------- */

struct files_progress {
    struct peer *peer;
    uint64_t done, total, moved;    /* bytes; moved: over the network */
    unsigned files, file_n, failed;
    const char *name;
    tw_time begun, shown;
    bool receiving, line;           /* line: one is on the terminal */
};
void files_progress(struct files_progress *g, bool now);
/* One file is over. */
void files_report(struct files_progress *g, const char *name, uint64_t size, enum files_result r, const char *why);
/* All of it is over. */
void files_summary(struct files_progress *g);

/* --- the two sides -------------------------------------------------------------------------------------- */

struct sending;
struct receiving;

/* Both: on_end is called once, from an event or from the loop; why NULL: all went over, or was said to have failed.
 * Then they are gone. */
struct sending *sending_new(struct peer *p, uint32_t conn, int64_t stream, const struct files_list *list,
                            struct files_progress *g, void (*on_end)(struct sending *s, const char *why));
void sending_event(struct sending *s, const struct tw_endpoint_event *ev);
void sending_free(struct sending *s);

struct receiving *receiving_new(struct peer *p, uint32_t conn, int64_t stream, int folder, bool overwrite,
                                void (*on_end)(struct receiving *r, const char *why), void *user);
void receiving_event(struct receiving *r, const struct tw_endpoint_event *ev);
const struct files_progress *receiving_progress(const struct receiving *r);
void *receiving_user(const struct receiving *r);
void receiving_free(struct receiving *r);

#endif
