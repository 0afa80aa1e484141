/* The two things a core may call out for: randomness and traces. */
#ifndef THALWEG_ENV_H
#define THALWEG_ENV_H

#include <stdarg.h>
#include <stddef.h>

#include <thalweg/export.h>
#include <thalweg/time.h>

TW_C_BEGIN

/* A source of random bytes. fill must always succeed; in production it is the operating system's
 * generator, in tests a seeded one. The struct is copied; ctx must outlive its users. */
struct tw_rng {
    void (*fill)(void *ctx, void *out, size_t n);
    void *ctx;
};

enum tw_level { TW_ERROR, TW_WARN, TW_INFO, TW_DEBUG };

/* Where a core's traces go. line is one record without a newline, valid during the call. An
 * emit of NULL discards. The struct is copied; ctx must outlive its users. */
struct tw_trace {
    void (*emit)(void *ctx, tw_time now, enum tw_level level, const char *line);
    void *ctx;
    enum tw_level max; /* records above it are not formatted */
};

/* What every machine is given when it is made. */
struct tw_env {
    struct tw_rng rng;
    struct tw_trace trace;
};

TW_API void tw_trace(const struct tw_trace *t, tw_time now, enum tw_level level, const char *fmt,
                     ...) TW_PRINTF(4, 5);

TW_C_END

#endif
