#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *out;
static bool json;
enum { RATE = 200 };
static unsigned rate = RATE;

/* Records of this second, and those that were too many in the one before. */
static time_t second;
static unsigned written, left_out;

bool log_open(const struct log_config *cfg)
{
    FILE *to = stderr;
    if (cfg->path && strcmp(cfg->path, "stdout") == 0) {
        to = stdout;
    } else if (cfg->path) {
        int fd = cfg->open_file(cfg->path);
        to = fd < 0 ? NULL : fdopen(fd, "a");
        if (!to) {
            fprintf(stderr, "thalwegd: cannot write the log %s: %s\n", cfg->path, strerror(errno));
            return false;
        }
    }
    setvbuf(to, NULL, _IOLBF, 0);
    pthread_mutex_lock(&lock);
    FILE *old = out;
    out = to;
    json = cfg->json;
    rate = cfg->rate ? cfg->rate : RATE;
    pthread_mutex_unlock(&lock);
    if (old && old != stdout && old != stderr)
        fclose(old);
    return true;
}

void log_close(void)
{
    if (out && out != stdout && out != stderr)
        fclose(out);
    out = NULL;
}

/* A record is one line whatever is in it; in JSON, a string. */
static void write_text(const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (json && (c == '"' || c == '\\'))
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, json ? "\\u%04x" : "\\x%02x", c);
        else
            fputc(c, out);
    }
}

static void write_record(const struct timespec *ts, enum tw_level level, const char *line)
{
    static const char *names[] = { "error", "warning", "info", "debug" };
    char stamp[32];
    struct tm tm;
    gmtime_r(&ts->tv_sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    if (json)
        fprintf(out, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":\"", stamp,
                ts->tv_nsec / 1000000, names[level]);
    else
        fprintf(out, "%s.%03ldZ %s ", stamp, ts->tv_nsec / 1000000, names[level]);
    write_text(line);
    fputs(json ? "\"}\n" : "\n", out);
}

static void write_line(enum tw_level level, const char *line)
{
    struct timespec ts;
    char said[80];
    clock_gettime(CLOCK_REALTIME, &ts);
    pthread_mutex_lock(&lock);
    if (!out) /* not opened yet: what is said while the configuration is read */
        out = stderr;
    if (ts.tv_sec != second) {
        if (left_out) {
            snprintf(said, sizeof(said), "%u records more than --log-rate were left out", left_out);
            write_record(&ts, TW_WARN, said);
        }
        second = ts.tv_sec;
        written = left_out = 0;
    }
    /* Errors always get through; there are few. */
    if (written++ < rate || level == TW_ERROR)
        write_record(&ts, level, line);
    else
        left_out++;
    pthread_mutex_unlock(&lock);
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
