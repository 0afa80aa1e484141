/* Everything that reads text: URIs, addresses, ranges, prefixes. What is read must print back. */
#include "fuzz.h"

#include <thalweg/addr.h>
#include <thalweg/error.h>
#include <thalweg/uri.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char text[512], back[TW_ADDR_STRLEN], srv[300];
    struct tw_uri u;
    struct tw_addr a, b;
    struct tw_range r;
    if (n >= sizeof(text))
        return 0;
    memcpy(text, p, n);
    text[n] = 0;
    if (!tw_uri_parse(text, &u, NULL))
        tw_uri_srv_name(&u, srv, sizeof(srv));
    if (!tw_addr_parse(text, 0, &a) &&
        (tw_addr_parse(tw_addr_format(&a, back), 0, &b) || !tw_addr_eq(&a, &b)))
        abort();
    if (!tw_range_parse(text, &r) &&
        (!tw_range_has(&r, &r.first) || !tw_range_has(&r, &r.last)))
        abort();
    if (!tw_nat64_parse(text, &r)) {
        struct tw_addr list[TW_EMBEDDED_MAX];
        if (tw_addr_embedded_v4(&r.first, &r, 1, list) == 0)
            abort();
    }
    return 0;
}
