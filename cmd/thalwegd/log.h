/* The log: one record a line, text or JSON, bounded, to a file or standard error. */
#ifndef THALWEGD_LOG_H
#define THALWEGD_LOG_H

#include <stdbool.h>

#include <thalweg/env.h>

struct log_config {
    const char *path;   /* NULL: standard error; "stdout" */
    bool json;
    unsigned rate;      /* records a second */
    int (*open_file)(const char *path); /* for appending */
};

/* Opens or opens again. False, after a complaint, when the file cannot be opened; the log is then
 * what it was before. path must stay. */
bool log_open(const struct log_config *cfg);
void log_close(void);

/* From any thread. */
void log_line(enum tw_level level, const char *fmt, ...) TW_PRINTF(2, 3);

/* For the machines. */
struct tw_trace log_trace(enum tw_level max);

#endif
