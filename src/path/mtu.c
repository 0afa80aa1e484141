#include "path/mtu.h"

#define WAIT (300 * TW_MSEC)
#define A_LITTLE (50 * TW_MSEC)
#define AGAIN (600 * TW_SEC) /* RFC 8899 §5.1.1: PMTU_RAISE_TIMER */
#define VERIFY (500 * TW_MSEC)
enum { TRIES = 3,            /* MAX_PROBES */
       VERIFY_TRIES = 2 };   /* one after the other: a black hole that is not there costs but a round trip in smaller packets */

/* UDP payloads, largest first, of paths that are common: Ethernet over IPv4 and IPv6, PPPoE, tunnels. */
static const uint16_t sizes[] = { 1472, 1452, 1444, 1424, 1392, 1352, 1280 };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

void tw_mtu_reset(struct tw_mtu *m, tw_time now, bool probing, const uint8_t token[8])
{
    *m = (struct tw_mtu){ .now = TW_MTU_BASE, .on = probing, .next = probing ? now : TW_NEVER, .verify_at = TW_NEVER };
    memcpy(m->token, token, sizeof(m->token));
}

void tw_mtu_sent(struct tw_mtu *m, tw_time now, size_t size, tw_time acked_at, tw_time rtt)
{
    if (!m->on || size <= TW_MTU_BASE || m->verifying)
        return;
    m->wait = rtt ? tw_time_min(rtt + rtt / 4 + A_LITTLE, WAIT) : WAIT;
    if (m->verify_at == TW_NEVER)
        m->since = now;
    tw_time heard = acked_at > m->since ? acked_at : m->since;
    m->verify_at = tw_time_min(m->since + VERIFY, heard + m->wait);
}

tw_time tw_mtu_deadline(const struct tw_mtu *m)
{
    return tw_time_min(m->next, m->verify_at);
}

static size_t write_probe(const struct tw_mtu *m, size_t size, uint8_t *buf)
{
    memset(buf, 0, size);
    buf[0] = TW_MTU_PROBE;
    memcpy(buf + 1, m->token, sizeof(m->token));
    tw_put_u16(buf + 9, (uint16_t)size);
    return size;
}

size_t tw_mtu_probe(struct tw_mtu *m, tw_time now, uint8_t *buf)
{
    if (m->on && now >= m->verify_at && m->verifying < VERIFY_TRIES) {
        m->verifying++;
        m->verify_at = now + (m->verifying < VERIFY_TRIES ? A_LITTLE : m->wait);
        return write_probe(m, m->now, buf);
    }
    if (m->on && now >= m->verify_at) { /* a black hole: from the beginning */
        m->now = TW_MTU_BASE;
        m->step = m->tries = m->verifying = 0;
        m->verify_at = TW_NEVER;
        m->next = now;
    }
    if (!m->on || now < m->next)
        return 0;
    if (m->step < SIZES && m->tries == TRIES) {
        m->step++;
        m->tries = 0;
    }
    if (m->step < SIZES && sizes[m->step] <= m->now)
        m->step = SIZES;
    if (m->step == SIZES) { /* later perhaps more */
        bool wait = m->tries++ == 0;
        m->next = now + AGAIN;
        if (wait)
            return 0;
        m->step = m->tries = 0;
        if (sizes[0] <= m->now)
            return 0;
    }
    m->tries++;
    m->next = now + WAIT;
    return write_probe(m, sizes[m->step], buf);
}

bool tw_mtu_recv(struct tw_mtu *m, tw_time now, struct tw_bytes in, uint8_t *reply, size_t *ret_reply_n)
{
    *ret_reply_n = 0;
    if (in.n < TW_MTU_HEADER || (in.p[0] != TW_MTU_PROBE && in.p[0] != TW_MTU_ACK))
        return false;
    if (in.p[0] == TW_MTU_PROBE) {
        if (tw_get_u16(in.p + 9) == in.n) {
            memcpy(reply, in.p, TW_MTU_HEADER);
            reply[0] = TW_MTU_ACK;
            *ret_reply_n = TW_MTU_HEADER;
        }
        return true;
    }
    size_t size = tw_get_u16(in.p + 9);
    if (!m->on || memcmp(in.p + 1, m->token, sizeof(m->token)) != 0 || size < m->now || size > TW_MTU_MAX)
        return true;
    m->verifying = 0;
    m->verify_at = TW_NEVER; /* until as much is sent again */
    if (size > m->now) {
        m->now = size;
        m->step = SIZES;
        m->tries = 0;
        m->next = now;
    }
    return true;
}
