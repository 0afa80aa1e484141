#include <thalweg/stun.h>

int tw_stun_frame(const uint8_t *p, size_t n, size_t *ret_len)
{
    *ret_len = 0;
    if (n == 0)
        return 0;
    bool channel = p[0] >> 6 == 1;
    if (p[0] >> 6 > 1)
        return TW_EMALFORMED;
    if (n < 4)
        return 0;
    size_t length = tw_get_u16(p + 2);
    /* Over a stream ChannelData is padded to a multiple of four (RFC 8656 §12.5). */
    size_t whole = channel ? 4 + ((length + 3) & ~(size_t)3) : TW_STUN_HEADER + length;
    if (!channel && (length % 4 || (n >= 8 && tw_get_u32(p + 4) != TW_STUN_COOKIE)))
        return TW_EMALFORMED;
    if (n >= whole)
        *ret_len = whole;
    return 0;
}
