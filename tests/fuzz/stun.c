/* Everything that reads a STUN message. */
#include "fuzz.h"

#include <thalweg/stun_client.h>

static void read_all(const struct tw_stun_msg *m)
{
    char text[512];
    struct tw_addr a;
    struct tw_bytes v;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    unsigned code;
    for (int i = 0; i < TW_STUN_A_COUNT; i++) {
        enum tw_stun_attr attr = (enum tw_stun_attr)i;
        size_t pos = 0;
        tw_stun_get_u8(m, attr, &u8);
        tw_stun_get_u16(m, attr, &u16);
        tw_stun_get_u32(m, attr, &u32);
        tw_stun_get_addr(m, attr, &a);
        while (tw_stun_next(m, attr, &pos, &v)) {
        }
    }
    tw_stun_get_error(m, &code, &v);
    tw_stun_dump(m, text, sizeof(text));
    tw_stun_verify(m, tw_bytes_str("key"));
    tw_stun_verify_sha256(m, tw_bytes_str("key"));
    tw_stun_nonce_features(tw_stun_get(m, TW_STUN_A_NONCE));
}

static void judge(const struct tw_stun_msg *m)
{
    static struct tw_stun_cred cred;
    if (tw_stun_cred_init(&cred, "user", "pass"))
        abort();
    for (int i = 0; i < 3; i++)
        tw_stun_cred_judge(&cred, m);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct tw_stun_msg m;
    size_t len;
    if (!tw_stun_frame(p, n, &len) && len > ((n + 3) & ~(size_t)3))
        abort();
    if (tw_stun_decode(tw_bytes(p, n), &m))
        return 0;
    read_all(&m);
    judge(&m);
    return 0;
}
