#include <thalweg/stun_client.h>

const struct tw_stun_timing tw_stun_timing_rfc = {
    .rto = 500 * TW_MSEC,
    .rc = 7,
    .rm = 16,
    .stream_timeout = 39500 * TW_MSEC,
};

void tw_stun_txn_start(struct tw_stun_txn *t, const struct tw_rng *rng, tw_time now)
{
    rng->fill(rng->ctx, t->tid, sizeof(t->tid));
    t->sent = 0;
    t->first = now;
    t->due = now;
}

void tw_stun_txn_stop(struct tw_stun_txn *t)
{
    t->sent = 0;
    t->due = TW_NEVER;
}

/* RFC 8489 §6.2.1: sent at 0, rto, 3 rto, 7 rto, ...; given up rm x rto after the last. */
int tw_stun_txn_step(struct tw_stun_txn *t, const struct tw_stun_timing *timing, bool stream,
                     tw_time now)
{
    if (now < t->due || t->due == TW_NEVER)
        return 0;
    if (t->sent >= (stream ? 1 : timing->rc)) {
        tw_stun_txn_stop(t);
        return TW_ETIMEOUT;
    }
    t->sent++;
    if (stream)
        t->due = now + timing->stream_timeout;
    else if (t->sent == timing->rc)
        t->due = now + timing->rm * timing->rto;
    else
        t->due = now + (timing->rto << (t->sent - 1));
    return 1;
}
