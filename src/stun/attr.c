#include "stun/attr.h"

const struct tw_stun_attr_info tw_stun_attr_infos[TW_STUN_A_COUNT] = {
#define INFO(name, type, text, kind, min, max, rfc)                                               \
    [TW_STUN_A_##name] = { (type), TW_STUN_K_##kind, (min), (max), text, rfc },
    TW_STUN_ATTRS(INFO)
#undef INFO
};

/* All known types lie in the first 64 of the comprehension-required or -optional half, or in the
 * first 128 of those that IANA gives out first come, first served. */
enum { HALF = 64, FREE = 128 };
#define SLOT(type)                                                                                \
    ((type) < 0x8000 ? (type) : (type) < 0xC000 ? HALF + ((type)-0x8000) : 2 * HALF + ((type)-0xC000))

int tw_stun_attr_find(uint16_t type)
{
    static const uint8_t index_plus_1[2 * HALF + FREE] = {
#define ENTRY(name, type, text, kind, min, max, rfc) [SLOT(type)] = TW_STUN_A_##name + 1,
        TW_STUN_ATTRS(ENTRY)
#undef ENTRY
    };
    if (type < 0xC000 ? (type & 0x7fff) >= HALF : type >= 0xC000 + FREE)
        return -1;
    return index_plus_1[SLOT(type)] - 1;
}

const char *tw_stun_method_name(unsigned method)
{
    switch (method) {
#define CASE(name, number, text)                                                                  \
    case number:                                                                                  \
        return text;
        TW_STUN_METHODS(CASE)
#undef CASE
    default:
        return NULL;
    }
}

const char *tw_stun_reason(unsigned code)
{
    switch (code) {
#define CASE(name, number, reason)                                                                \
    case number:                                                                                  \
        return reason;
        TW_STUN_CODES(CASE)
#undef CASE
    default:
        return "";
    }
}
