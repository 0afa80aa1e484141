#include <stdlib.h>

#include "peer.h"
#include "rt/file.h"

bool config_path(const char *name, char *buf, size_t cap)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = xdg && *xdg ? snprintf(buf, cap, "%s/thalweg/%s", xdg, name)
            : home && *home ? snprintf(buf, cap, "%s/.config/thalweg/%s", home, name) : -1;
    return n > 0 && (size_t)n < cap;
}

int key_load(const char *path, uint8_t seed[TW_SEED_SIZE], char *buf, size_t cap, bool *ret_made)
{
    const char *why = "there is no HOME to keep it in; name one with --key";
    bool named = path || config_path("key", buf, cap);
    if (path)
        snprintf(buf, cap, "%s", path);
    if (named && !tw_rt_keyfile(buf, seed, ret_made, &why))
        return EXIT_OK;
    fprintf(stderr, "thalweg: the key %s: %s\n", named ? buf : "file", why);
    return EXIT_FAILED;
}
