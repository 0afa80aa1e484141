/* Small files: read whole, written whole or not at all; and the one that an identity is kept in: "thalweg-key-1", a
 * blank, and the seed in base64. */
#ifndef TW_RT_FILE_H
#define TW_RT_FILE_H

#include <thalweg/ident.h>

/* Reads the key, or makes one, and the folders on the way. *ret_made: it is new. Files that others may read are
 * refused. TW_ESYS, TW_EDENIED, TW_EMALFORMED: *ret_why says what is wrong; static, or valid until the next call of
 * this thread. */
TW_NODISCARD int tw_rt_keyfile(const char *path, uint8_t seed[TW_SEED_SIZE], bool *ret_made, const char **ret_why);

/* Reads a file of up to max bytes; a NUL follows them. The caller frees it. TW_ESYS: errno says why; TW_EFULL: it is
 * longer; TW_ENOMEM. */
TW_NODISCARD int tw_rt_read_file(const char *path, size_t max, char **ret_text, size_t *ret_n);

/* Writes a file as a whole or not at all, and the folders on the way, with mode 0600. replace: over one that is there; else TW_EDENIED then.
 * TW_ESYS: errno says why. */
TW_NODISCARD int tw_rt_write_file(const char *path, const char *text, size_t n, bool replace);

#endif
