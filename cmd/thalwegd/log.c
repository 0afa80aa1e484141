#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static FILE *out;

bool log_open(const char *path)
{
    out = stderr;
    if (path && strcmp(path, "stdout") == 0) {
        out = stdout;
    } else if (path) {
        out = fopen(path, "ae");
        if (!out) {
            fprintf(stderr, "thalwegd: cannot write the log %s: %s\n", path, strerror(errno));
            return false;
        }
    }
    setvbuf(out, NULL, _IOLBF, 0);
    return true;
}

void log_close(void)
{
    if (out && out != stdout && out != stderr)
        fclose(out);
    out = NULL;
}

static void write_line(enum tw_level level, const char *line)
{
    static const char *names[] = { "error", "warning", "info", "debug" };
    char stamp[32];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    fprintf(out, "%s.%03ldZ %s %s\n", stamp, ts.tv_nsec / 1000000, names[level], line);
}

void log_line(enum tw_level level, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    write_line(level, line);
}

static void emit(void *ctx, tw_time now, enum tw_level level, const char *line)
{
    (void)ctx;
    (void)now;
    write_line(level, line);
}

struct tw_trace log_trace(enum tw_level max)
{
    return (struct tw_trace){ .emit = max > TW_INFO ? emit : NULL, .max = max };
}
