/* The key file: "thalweg-key-1", a blank, and the seed in base64. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "peer.h"

static const char head[] = "thalweg-key-1 ";
enum { TEXT = 44 }; /* base64 of 32 bytes */

bool config_path(const char *name, char *buf, size_t cap)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = xdg && *xdg ? snprintf(buf, cap, "%s/thalweg/%s", xdg, name)
            : home && *home ? snprintf(buf, cap, "%s/.config/thalweg/%s", home, name) : -1;
    return n > 0 && (size_t)n < cap;
}

/* The folders on the way to a file. */
static void make_folders(const char *path)
{
    char part[4096];
    for (const char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
        mkdir(part, 0700);
    }
}

static int complain(const char *path, const char *why)
{
    fprintf(stderr, "thalweg: the key %s: %s\n", path, why);
    return EXIT_FAILED;
}

static int make(const char *path, uint8_t seed[TW_SEED_SIZE])
{
    char text[sizeof(head) + TEXT + 2], tmp[4110];
    make_folders(path);
    randombytes_buf(seed, TW_SEED_SIZE);
    memcpy(text, head, sizeof(head) - 1);
    sodium_bin2base64(text + sizeof(head) - 1, TEXT + 1, seed, TW_SEED_SIZE, sodium_base64_VARIANT_ORIGINAL);
    strcat(text, "\n");
    /* Whole or not at all, and never over another one. */
    snprintf(tmp, sizeof(tmp), "%s.%ld", path, (long)getpid());
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t n = strlen(text);
    bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    int err = errno;
    if (fd >= 0)
        close(fd);
    ok = ok && link(tmp, path) == 0;
    err = ok ? 0 : errno ? errno : err;
    if (fd >= 0)
        unlink(tmp);
    sodium_memzero(text, sizeof(text));
    return ok ? EXIT_OK : complain(path, strerror(err));
}

static int read_key(const char *path, int fd, uint8_t seed[TW_SEED_SIZE])
{
    char text[sizeof(head) + TEXT + 2] = { 0 };
    struct stat st;
    size_t n;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    if (got < 0 || fstat(fd, &st))
        return complain(path, strerror(errno));
    if (st.st_mode & 077)
        return complain(path, "others may read it; chmod 600, or, if they have, make another one");
    bool ok = !strncmp(text, head, sizeof(head) - 1) &&
              !sodium_base642bin(seed, TW_SEED_SIZE, text + sizeof(head) - 1, TEXT, NULL, &n, NULL,
                                 sodium_base64_VARIANT_ORIGINAL) &&
              n == TW_SEED_SIZE;
    sodium_memzero(text, sizeof(text));
    return ok ? EXIT_OK : complain(path, "this is no key of thalweg's");
}

int key_load(const char *path, uint8_t seed[TW_SEED_SIZE], char *buf, size_t cap, bool *ret_made)
{
    *ret_made = false;
    if (path)
        snprintf(buf, cap, "%s", path);
    else if (!config_path("key", buf, cap))
        return complain("file", "there is no HOME to keep it in; name one with --key");
    for (int i = 0; i < 2; i++) {
        int fd = open(buf, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            int status = read_key(buf, fd, seed);
            close(fd);
            return status;
        }
        if (errno != ENOENT)
            return complain(buf, strerror(errno));
        *ret_made = make(buf, seed) == EXIT_OK;
        if (*ret_made)
            return EXIT_OK;
        if (errno != EEXIST) /* another process was faster: that one, then */
            return EXIT_FAILED;
    }
    return EXIT_FAILED;
}
