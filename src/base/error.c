#include <thalweg/error.h>

const char *tw_strerror(int error)
{
    switch (error) {
    case TW_OK:
        return "success";
#define CASE(name, value, text)                                                                   \
    case TW_E##name:                                                                              \
        return text;
        TW_ERRORS(CASE)
#undef CASE
    default:
        return "unknown error";
    }
}

const char *tw_error_name(int error)
{
    switch (error) {
    case TW_OK:
        return "OK";
#define CASE(name, value, text)                                                                   \
    case TW_E##name:                                                                              \
        return #name;
        TW_ERRORS(CASE)
#undef CASE
    default:
        return "?";
    }
}
