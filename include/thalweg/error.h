/* Errors: one table gives the enum, the names and the texts. */
#ifndef THALWEG_ERROR_H
#define THALWEG_ERROR_H

#include <thalweg/export.h>

TW_C_BEGIN

/* X(name, value, text). 0 is success; a value, once published, keeps its meaning. */
#define TW_ERRORS(X)                                                                              \
    X(NOMEM, -1, "out of memory")                                                                 \
    X(INVAL, -2, "an argument is not valid")                                                      \
    X(SHORT, -3, "the input ends too early")                                                      \
    X(MALFORMED, -4, "the input breaks the rules of its format")                                  \
    X(FULL, -5, "a bounded table, queue or buffer is full")                                       \
    X(STATE, -6, "not legal in this state")                                                       \
    X(AUTH, -7, "the integrity check failed")                                                     \
    X(NOTFOUND, -8, "not found")                                                                  \
    X(DENIED, -9, "refused by policy")                                                            \
    X(UNSUPPORTED, -10, "not supported")                                                          \
    X(TIMEOUT, -11, "no answer in time")                                                          \
    X(SYS, -12, "a system call failed; errno says why")                                           \
    X(CRYPTO, -13, "the cryptographic library refused the operation")                             \
    X(ADDRINUSE, -14, "the address is in use")

enum tw_error {
    TW_OK = 0,
#define TW_ERROR_ENUM(name, value, text) TW_E##name = (value),
    TW_ERRORS(TW_ERROR_ENUM)
#undef TW_ERROR_ENUM
};

/* The text for an error code: a static string, never NULL; "success" for 0 and
 * "unknown error" for a value that is not in the table. */
TW_API const char *tw_strerror(int error);

/* The short name ("MALFORMED") for an error code: a static string, "OK" for 0, "?" if unknown. */
TW_API const char *tw_error_name(int error);

TW_C_END

#endif
