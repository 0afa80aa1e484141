#include "rt/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char head[] = "thalweg-key-1 ";
enum { TEXT = 44, PATH = 4096 }; /* TEXT: base64 of 32 bytes */

/* The folders on the way to a file. */
static void make_folders(const char *path)
{
    char part[PATH];
    for (const char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
        mkdir(part, 0700);
    }
}

int tw_rt_read_file(const char *path, size_t max, char **ret_text, size_t *ret_n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd < 0 ? NULL : malloc(max + 1);
    size_t n = 0;
    ssize_t got = 1;
    if (fd < 0)
        return TW_ESYS;
    while (text && n < max && (got = read(fd, text + n, max - n)) > 0)
        n += (size_t)got;
    int err = !text ? TW_ENOMEM : got < 0 ? TW_ESYS : n == max ? TW_EFULL : 0;
    int saved = errno;
    close(fd);
    errno = saved;
    if (err) {
        free(text);
        return err;
    }
    text[n] = 0;
    *ret_text = text;
    *ret_n = n;
    return 0;
}

int tw_rt_write_file(const char *path, const char *text, size_t n, bool replace)
{
    char tmp[PATH + 16];
    make_folders(path);
    snprintf(tmp, sizeof(tmp), "%s.%ld", path, (long)getpid());
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return TW_ESYS;
    bool ok = write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    ok = ok && (replace ? rename(tmp, path) : link(tmp, path)) == 0;
    int saved = errno;
    if (!ok || !replace)
        unlink(tmp);
    errno = saved;
    return ok ? 0 : saved == EEXIST && !replace ? TW_EDENIED : TW_ESYS;
}

static int make(const char *path, uint8_t seed[TW_SEED_SIZE])
{
    char text[sizeof(head) + TEXT + 2];
    randombytes_buf(seed, TW_SEED_SIZE);
    memcpy(text, head, sizeof(head) - 1);
    sodium_bin2base64(text + sizeof(head) - 1, TEXT + 1, seed, TW_SEED_SIZE, sodium_base64_VARIANT_ORIGINAL);
    strcat(text, "\n");
    int err = tw_rt_write_file(path, text, strlen(text), false);
    sodium_memzero(text, sizeof(text));
    return err;
}

static int read_key(int fd, uint8_t seed[TW_SEED_SIZE], const char **ret_why)
{
    char text[sizeof(head) + TEXT + 2] = { 0 };
    struct stat st;
    size_t n;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    if (got < 0 || fstat(fd, &st)) {
        *ret_why = strerror(errno);
        return TW_ESYS;
    }
    *ret_why = "others may read it; chmod 600, or, if they have, make another one";
    if (st.st_mode & 077)
        return TW_EDENIED;
    bool ok = !strncmp(text, head, sizeof(head) - 1) &&
              !sodium_base642bin(seed, TW_SEED_SIZE, text + sizeof(head) - 1, TEXT, NULL, &n, NULL,
                                 sodium_base64_VARIANT_ORIGINAL) &&
              n == TW_SEED_SIZE;
    sodium_memzero(text, sizeof(text));
    *ret_why = "this is no key of thalweg's";
    return ok ? 0 : TW_EMALFORMED;
}

int tw_rt_keyfile(const char *path, uint8_t seed[TW_SEED_SIZE], bool *ret_made, const char **ret_why)
{
    *ret_made = false;
    for (int i = 0; i < 2; i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            int err = read_key(fd, seed, ret_why);
            close(fd);
            return err;
        }
        if (errno != ENOENT)
            break;
        int err = make(path, seed);
        *ret_made = err == 0;
        if (!err)
            return 0;
        if (err != TW_EDENIED) /* another process was faster: that one, then */
            break;
    }
    *ret_why = strerror(errno);
    return TW_ESYS;
}
