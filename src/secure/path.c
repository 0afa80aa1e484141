/* QUIC over a way that changes, and that may be silent for long: when it is told of another path, and when its clock is put forward. */
#include "secure/internal.h"

#define TALK_AFTER_SWITCH (30 * TW_SEC)
#define STUCK_AFTER (3 * TW_SEC)
#define SWITCH_PAUSE TW_SEC     /* between changes of path; longer after some after which nothing was acknowledged */
#define A_LITTLE (200 * TW_MSEC)
#define STUCK (2 * TW_SEC)
#define NO_ROUND_TRIP (2 * TW_SEC) /* more than eight that ICE has measured */
#define ANEW_PAUSE (30 * TW_SEC)
#define MOST_AHEAD (600 * TW_SEC) /* that one timer may lie ahead: others mean "never" */
enum { LOOKS = 5, HURRY = 8 };

void secure_path_init(struct tw_secure *s)
{
    s->last_switch = -SWITCH_PAUSE;
    s->look_at = TW_NEVER;
    s->anew_at = -ANEW_PAUSE;
}

/* --- what is under way ------------------------------------------------------------------------------- */

static ngtcp2_conn_info info_of(const struct tw_secure *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    return info;
}

static void watch_flight(struct tw_secure *s)
{
    uint64_t now = info_of(s).bytes_in_flight;
    if (now != s->flight)
        s->flight_at = s->now;
    if (now < s->flight || !s->flight)
        s->progress_at = s->now;
    s->flight = now;
}

bool tw_secure_is_stuck(const struct tw_secure *s, tw_time now)
{
    return s->flight && now - s->progress_at >= STUCK;
}

/* --- another path ------------------------------------------------------------------------------------ */

/* A client's change uses up one of the server's connection IDs, of which there are seven until the server acknowledges something. */
static tw_time may_switch_at(const struct tw_secure *s)
{
    static const uint8_t shifts[] = { 0, 0, 0, 1, 1, 2, 4 };
    return s->last_switch + (SWITCH_PAUSE << shifts[s->switches < sizeof(shifts) ? s->switches : sizeof(shifts) - 1]);
}

static void begin_switch(struct tw_secure *s)
{
    s->last_switch = s->now;
    s->switches++;
    if (s->cfg.server) {
        s->remote.sin_addr.s_addr++; /* a port alone would count as the same path (RFC 9000 §9.4) */
        return;
    }
    /* A server that holds back what the new path may not take yet, or is stuck, can do nothing until it hears from us, who may have
     * nothing to say. */
    ngtcp2_conn_set_keep_alive_timeout(s->conn, SWITCH_PAUSE);
    s->quiet_at = s->now + TALK_AFTER_SWITCH;
    s->local.sin_addr.s_addr++;
    if (ngtcp2_conn_initiate_immediate_migration(s->conn, &s->path, secure_clock(s)))
        s->local.sin_addr.s_addr--; /* no connection ID left: goes on as it was */
    watch_flight(s);
}

/* Not while nothing is known to come through: a way that is looked for may change many times, and each change costs. One that came too
 * soon is made up for where what was sent since has come to nothing. */
static void try_switch(struct tw_secure *s)
{
    if (!s->switch_wanted || !s->alive || s->now < may_switch_at(s))
        return;
    bool late = s->now > s->wanted_at + A_LITTLE;
    bool anew = s->anew_wanted;
    s->switch_wanted = s->anew_wanted = false;
    if (!late || anew || (s->flight && !s->acked_at))
        begin_switch(s);
}

/* What was acknowledged out of a server's queue, or by a peer that slept, may make QUIC's round trip minutes, and its loss timer three
 * times that. Then all begins anew. */
static void doubt_rtt(struct tw_secure *s, tw_time rtt)
{
    if ((tw_time)info_of(s).smoothed_rtt <= 8 * rtt + NO_ROUND_TRIP || s->now - s->anew_at < ANEW_PAUSE)
        return;
    s->anew_at = s->now;
    s->anew_wanted = s->switch_wanted = true;
}

/* Where a new path may not take any more yet (RFC 9000 §8.1), ngtcp2 lets go of its loss timer and does not set it again when the peer
 * is heard (RFC 9002 §A.6): with the window full of what got lost it says nothing for ever. On yet another path it begins anew. */
static void help_if_stuck(struct tw_secure *s)
{
    if (!s->cfg.server || s->now < tw_time_add(s->acked_at > s->last_switch ? s->acked_at : s->last_switch, STUCK_AFTER))
        return;
    ngtcp2_conn_info now = info_of(s);
    if (now.bytes_in_flight >= now.cwnd)
        begin_switch(s);
}

void tw_secure_new_path(struct tw_secure *s, tw_time now)
{
    s->now = now;
    if (!s->conn || !s->confirmed || s->closing)
        return;
    s->switch_wanted = true; /* under the same label until then, with what was learned of the path before */
    s->wanted_at = now;
    s->alive = false;
    s->acked_at = 0;
}

/* --- putting the clock forward ----------------------------------------------------------------------- */

/* QUIC's loss timer backs off while there is no way, and takes a machine's sleep for a long round trip; then it would wait for minutes
 * though the way is there again. Its clock is ours: we put it forward until the timer is due. Not while something sent just now may be
 * acknowledged, which tells what is lost: that would look as if it had taken as long. */
static void look(struct tw_secure *s)
{
    s->look_at = TW_NEVER;
    if (!s->flight || s->looks == LOOKS)
        return;
    tw_time since = s->flight_at > s->hurried_at ? s->flight_at : s->hurried_at;
    if (s->now >= since + s->patience) {
        s->hurry = HURRY;
        s->looks++;
        since = s->hurried_at = s->now;
    }
    s->look_at = since + (s->patience << s->looks);
}

void tw_secure_alive(struct tw_secure *s, tw_time now, tw_time rtt)
{
    s->now = now;
    if (!s->conn || !s->confirmed || s->closing || s->closed)
        return;
    s->alive = true;
    s->patience = 2 * rtt + A_LITTLE;
    s->looks = 0;
    doubt_rtt(s, rtt);
    try_switch(s);
    look(s);
}

/* The next of QUIC's timers is due now. It may be another than that of loss. */
static void put_forward(struct tw_secure *s)
{
    ngtcp2_tstamp at = ngtcp2_conn_get_expiry(s->conn), clock = secure_clock(s);
    s->hurry--;
    if (at > clock && at - clock < (ngtcp2_tstamp)MOST_AHEAD)
        s->ahead += (tw_time)(at - clock);
}

/* --- what the rest tells ----------------------------------------------------------------------------- */

void secure_path_heard(struct tw_secure *s)
{
    if (s->conn && s->confirmed)
        help_if_stuck(s);
}

void secure_path_read(struct tw_secure *s)
{
    if (s->conn)
        watch_flight(s);
}

void secure_path_sent(struct tw_secure *s)
{
    uint64_t before = s->flight;
    watch_flight(s);
    if (s->flight > before)
        s->hurry = 0;
}

void secure_path_tick(struct tw_secure *s)
{
    try_switch(s);
    if (s->quiet_at && s->now >= s->quiet_at) {
        s->quiet_at = 0;
        ngtcp2_conn_set_keep_alive_timeout(s->conn, UINT64_MAX);
    }
    if (s->now >= s->look_at)
        look(s);
    if (s->hurry)
        put_forward(s);
}

tw_time secure_path_deadline(const struct tw_secure *s)
{
    tw_time at = s->hurry ? s->now : s->look_at;
    return s->switch_wanted && s->alive ? tw_time_min(at, may_switch_at(s)) : at;
}
