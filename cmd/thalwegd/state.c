#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "options.h"

/* systemd names it by StateDirectory=. */
static const char *folder(const struct options *o)
{
    const char *dir = o->state_dir ? o->state_dir : getenv("STATE_DIRECTORY");
    return dir && *dir ? dir : NULL;
}

bool state_get(const struct options *o, const char *name, char *text, size_t cap)
{
    char path[4096];
    const char *dir = folder(o);
    text[0] = 0;
    if (!dir)
        return false;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, cap, f);
    fclose(f);
    text[n < cap ? n : 0] = 0;
    return text[0];
}

void state_put(const struct options *o, const char *name, const char *text)
{
    char path[4096], fresh[4096];
    const char *dir = folder(o);
    if (!dir)
        return;
    mkdir(dir, 0700); /* or it is there */
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    snprintf(fresh, sizeof(fresh), "%.4000s/.%s.new", dir, name);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t n = strlen(text);
    bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (!ok || rename(fresh, path))
        log_line(TW_WARN, "%s cannot be kept in %s: %s; it will be another one after a restart", name, dir, strerror(ok ? errno : why));
}

void state_make_up(const struct options *o, const char *name, unsigned random, char text[STATE_TEXT])
{
    enum { SHORTEST = 16 }; /* less is not what was made up */
    uint8_t bytes[24];
    if (state_get(o, name, text, STATE_TEXT) && strlen(text) >= SHORTEST)
        return;
    randombytes_buf(bytes, random);
    sodium_bin2base64(text, STATE_TEXT, bytes, random, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    state_put(o, name, text);
}
