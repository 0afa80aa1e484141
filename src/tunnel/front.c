#include "tunnel/front.h"

#include "tunnel/http.h"

enum { HEAD_MAX = 8192 };

enum tw_front tw_front_look(struct tw_bytes in)
{
    struct tw_http h;
    size_t used;
    if (in.n == 0)
        return TW_FRONT_MORE;
    if (in.p[0] < 4) /* RFC 7983 §7; letters are above */
        return TW_FRONT_TURN;
    int err = tw_http_parse(in, true, &h, &used);
    if (err == TW_ESHORT && in.n < HEAD_MAX)
        return TW_FRONT_MORE;
    static const char poll[] = TW_FRONT_PATH "/poll/";
    if (!err && h.target.n > sizeof(poll) - 1 && memcmp(h.target.p, poll, sizeof(poll) - 1) == 0)
        return TW_FRONT_POLL;
    return !err && tw_http_has(&h, "upgrade", "websocket") && tw_http_has(&h, "sec-websocket-protocol", TW_TURN_PROTOCOL)
               ? TW_FRONT_TURN_WS : TW_FRONT_WEB;
}
