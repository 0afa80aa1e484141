/* What every fuzz target includes. Linked with libFuzzer, or with replay.c to run a corpus. */
#ifndef TW_FUZZ_H
#define TW_FUZZ_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <thalweg/datagram.h>
#include <thalweg/env.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* The same "random" bytes in every run. */
static inline void fuzz_fill(void *ctx, void *out, size_t n)
{
    uint32_t *x = ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)((*x = *x * 1664525 + 1013904223) >> 24);
}

/* Copies to memory of exactly that size, so that a reader that goes too far is caught. */
static inline uint8_t *fuzz_exact(struct tw_bytes b)
{
    uint8_t *p = malloc(b.n ? b.n : 1);
    if (!p)
        abort();
    if (b.n)
        memcpy(p, b.p, b.n);
    return p;
}

/* Looks at every byte a machine wants to send. */
static inline void fuzz_touch(const struct tw_datagram *d)
{
    volatile uint8_t sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < d->iov_n; i++) {
        for (size_t k = 0; k < d->iov[i].n; k++)
            sum = (uint8_t)(sum + d->iov[i].p[k]);
        n += d->iov[i].n;
    }
    if (n > 65507)
        abort();
}

#endif
