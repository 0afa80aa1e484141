#include "ice/dialect.h"

/* Twelve packets are what an address gets from which nothing comes, all pairs together: eight of a
 * pair, seven from a relay. Doubling from 25 ms they reach over 3 s; the
 * hole that they open lasts for a peer that starts later. */
const struct dialect ice_dialect_own = {
    .ta = 0,
    .burst = 16,
    .rto = 25 * TW_MSEC,
    .rto_max = 3200 * TW_MSEC,
    .sends = 8,
    .relay_sends = 7,
    .rm = 2,
    .late = 3 * TW_SEC,
    .freeze = false,
    .nominate_direct = 0,
    .nominate_relay = 0,
    .consent = 5 * TW_SEC,
    .keep = 15 * TW_SEC,
    .spare = 10 * TW_SEC,
    .spares = 2,
};

/* Ta is 50 ms and a check has an RTO of at least 500 ms (RFC 8445 §14.2, §14.3), Rc 7 and Rm 16
 * (RFC 8489 §6.2.1). A nomination is final there, so something better is given a moment. */
const struct dialect ice_dialect_rfc = {
    .ta = 50 * TW_MSEC,
    .burst = 1,
    .rto = 500 * TW_MSEC,
    .rto_max = 32000 * TW_MSEC,
    .sends = 7,
    .relay_sends = 7,
    .rm = 1, /* 16 x RTO after the seventh, when the last wait was 32 x */
    .freeze = true,
    .nominate_direct = 100 * TW_MSEC,
    .nominate_relay = 500 * TW_MSEC,
    .consent = 5 * TW_SEC,
    .keep = 5 * TW_SEC,
    .spare = 0,
    .spares = 0,
};
