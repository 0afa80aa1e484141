#include <thalweg/env.h>

#include <stdio.h>

void tw_trace(const struct tw_trace *t, tw_time now, enum tw_level level, const char *fmt, ...)
{
    if (!t->emit || level > t->max)
        return;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    t->emit(t->ctx, now, level, line);
}
