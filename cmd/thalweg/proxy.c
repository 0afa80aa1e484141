#include <stdlib.h>
#include <string.h>

#include "peer.h"

/* As other programs have it: the lower-case name first. */
static const char *from_environment(const char *lower, const char *upper)
{
    const char *v = getenv(lower);
    if (!v || !*v)
        v = getenv(upper);
    return v && *v ? v : NULL;
}

int proxy_read(const char *given, struct tw_proxy_url *ret, const char **ret_exempt)
{
    const char *text = given, *why, *name = "--proxy";
    *ret = (struct tw_proxy_url){ .kind = TW_PROXY_NONE };
    *ret_exempt = NULL;
    if (given && !strcmp(given, "none"))
        return EXIT_OK;
    if (!text) {
        static const char *const names[][2] = { { "https_proxy", "HTTPS_PROXY" }, { "all_proxy", "ALL_PROXY" } };
        for (int i = 0; i < 2 && !text; i++) {
            text = from_environment(names[i][0], names[i][1]);
            name = names[i][0];
        }
        *ret_exempt = from_environment("no_proxy", "NO_PROXY");
    }
    if (!text || !tw_proxy_parse(text, ret, &why))
        return EXIT_OK;
    fprintf(stderr, "thalweg: %s: %s\n", name, why); /* not the value: a password may be in it */
    return EXIT_USAGE;
}
