#include <string.h>

#include "peer.h"
#include "rt/os.h"

int service_say(struct peer *p, uint32_t conn, int64_t stream, unsigned what, const char *text)
{
    uint8_t head[SERVICE_HEAD + SERVICE_TEXT_MAX];
    size_t n = strlen(text), wrote;
    if (n > SERVICE_TEXT_MAX)
        n = SERVICE_TEXT_MAX;
    head[0] = (uint8_t)what;
    tw_put_u16(head + 1, (uint16_t)n);
    memcpy(head + SERVICE_HEAD, text, n);
    return tw_endpoint_write(p->rt.endpoint, tw_rt_now(), conn, stream, tw_bytes(head, SERVICE_HEAD + n), false,
                             &wrote);
}

int service_hear(struct peer *p, uint32_t conn, int64_t stream, unsigned *ret_what, char text[SERVICE_TEXT_MAX + 1])
{
    struct tw_bytes b;
    bool end;
    if (tw_endpoint_peek(p->rt.endpoint, conn, stream, &b, &end))
        return -1;
    size_t n = b.n < SERVICE_HEAD ? SIZE_MAX : tw_get_u16(b.p + 1);
    if (n != SIZE_MAX && n > SERVICE_TEXT_MAX)
        return -1;
    if (n == SIZE_MAX || b.n - SERVICE_HEAD < n)
        return end ? -1 : 0; /* it was written at once, and lies in one piece */
    *ret_what = b.p[0];
    for (size_t i = 0; i < n; i++) /* a stranger's words: they may not steer a terminal */
        text[i] = b.p[SERVICE_HEAD + i] >= ' ' && b.p[SERVICE_HEAD + i] < 127 ? (char)b.p[SERVICE_HEAD + i] : '?';
    text[n] = 0;
    tw_endpoint_take(p->rt.endpoint, tw_rt_now(), conn, stream, SERVICE_HEAD + n);
    return 1;
}
