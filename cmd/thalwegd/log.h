/* The log: one record a line. */
#ifndef THALWEGD_LOG_H
#define THALWEGD_LOG_H

#include <stdbool.h>

#include <thalweg/env.h>

/* path NULL: standard error; "stdout": that. False after saying why the file cannot be opened. */
bool log_open(const char *path);
void log_close(void);

/* From any thread. */
void log_line(enum tw_level level, const char *fmt, ...) TW_PRINTF(2, 3);

/* For the machines. */
struct tw_trace log_trace(enum tw_level max);

#endif
