/* What the NAT before us does, as far as the mappings show that we get to see anyway. */
#include "ice/internal.h"

enum { NEAR = 16 }; /* ports so close together come from a counter: of two random ones 1 pair in 2000 */
static const tw_time TOGETHER = TW_SEC; /* mappings made later than this after another may have had many between */

static bool same_target(const struct sample *s, uint16_t base, const struct tw_addr *dst)
{
    return s->base == base && tw_addr_eq(&s->dst, dst);
}

/* RFC 4787 §4.1 from what one socket sees: the same towards all, or not; and then whether the next
 * port can be told. Samples are in the order in which the mappings were made. */
static void classify(struct nat *n, uint16_t base, const struct tw_addr *local)
{
    const struct sample *of[SAMPLES], *first = NULL;
    unsigned m = 0;
    bool differ = false, random = false, judged = false;
    int step = 0;
    for (unsigned i = 0; i < n->n; i++)
        if (n->samples[i].base == base)
            of[m++] = &n->samples[i];
    bool kept = m && of[0]->mapped.port == local->port;
    n->step = kept ? EASY_KEEPS : 0;
    if (m && tw_addr_eq(&of[0]->mapped, local)) {
        n->kind = NAT_EASY; /* no NAT at all */
        return;
    }
    if (m < 2)
        return;
    for (unsigned i = 1; i < m; i++)
        differ = differ || !tw_addr_eq(&of[0]->mapped, &of[i]->mapped);
    if (!differ) {
        n->kind = NAT_EASY;
        return;
    }
    for (unsigned i = 0; i < m; i++)
        for (unsigned k = 0; k < i; k++)
            if (tw_addr_eq_ip(&of[i]->dst, &of[k]->dst))
                n->by_address = tw_addr_eq(&of[i]->mapped, &of[k]->mapped);
    /* The first one kept the socket's port: whatever the others get, a new socket's first is known. */
    if (kept) {
        n->kind = NAT_PRESERVING;
        return;
    }
    for (unsigned i = 0; i < m; i++) {
        bool together = first && of[i]->at - first->at <= TOGETHER;
        int d = together ? (int)of[i]->mapped.port - (int)first->mapped.port : 0;
        judged = judged || d;
        if (d && (step == 0 || (d < 0 ? -d : d) < (step < 0 ? -step : step)))
            step = d;
        random = random || d > NEAR || d < -NEAR || !tw_addr_eq_ip(&of[i]->mapped, &of[0]->mapped);
        first = of[i];
    }
    n->kind = random ? NAT_RANDOM : judged ? NAT_SEQUENTIAL : NAT_UNKNOWN;
    n->step = (int8_t)(random ? 0 : step);
}

void ice_nat_sample(struct tw_ice *a, uint16_t base, const struct tw_addr *dst,
                    const struct tw_addr *mapped, tw_time at)
{
    struct nat *n = &a->nat;
    const struct base *b = &a->bases[base];
    if (b->kind != BASE_UDP || b->probe || b->local.family != TW_FAMILY_V4 ||
        (n->n && n->samples[0].base != base))
        return; /* one socket's view is enough, and only one counter is looked at */
    for (unsigned i = 0; i < n->n; i++)
        if (same_target(&n->samples[i], base, dst)) {
            if (!tw_addr_eq(&n->samples[i].mapped, mapped))
                n->samples[i] = (struct sample){ *dst, *mapped, at, base }; /* the NAT forgot */
            return;
        }
    if (n->n == SAMPLES)
        return;
    unsigned i = n->n++;
    for (; i > 0 && n->samples[i - 1].at > at; i--)
        n->samples[i] = n->samples[i - 1];
    n->samples[i] = (struct sample){ *dst, *mapped, at, base };
    uint8_t before = n->kind;
    classify(n, base, &b->local);
    if (n->kind != before)
        ice_probe_news(a);
}

const char *ice_nat_text(enum nat_kind k)
{
    static const char *const text[NAT_KINDS] = {
        [NAT_UNKNOWN] = "not known",
        [NAT_EASY] = "one outside port for all destinations",
        [NAT_PRESERVING] = "an outside port for each destination, the first is the inside one",
        [NAT_SEQUENTIAL] = "an outside port for each destination, one after the other",
        [NAT_RANDOM] = "an outside port for each destination, drawn by lot",
    };
    return text[k];
}
