/* Who comes to a port that serves all: the first bytes tell. */
#ifndef TW_TUNNEL_FRONT_H
#define TW_TUNNEL_FRONT_H

#include <thalweg/bytes.h>

#define TW_FRONT_PATH "/thalweg"
#define TW_TURN_PROTOCOL "thalweg-turn.1" /* Sec-WebSocket-Protocol: messages are pieces of what TURN sends over TCP */
#define TW_DIRECT_PROTOCOL "thalweg.1"    /* the same between two peers: pieces of RFC 4571's frames */
enum { TW_TURN_MESSAGE_MAX = 16384 };

enum tw_front {
    TW_FRONT_MORE,    /* too little has come to tell */
    TW_FRONT_TURN,    /* STUN or TURN as over any TCP connection */
    TW_FRONT_TURN_WS, /* a request for that inside a WebSocket */
    TW_FRONT_POLL,    /* a request of tunnel/poll.h's */
    TW_FRONT_WEB,     /* anything else that HTTP may be */
};
enum tw_front tw_front_look(struct tw_bytes in);

#endif
