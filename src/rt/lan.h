/* Peers in the same network, without a server: who listens runs a rendezvous of its own, and answers who asks by multicast
 * for one of its names (docs/protocol.md §3.1). */
#ifndef TW_RT_LAN_H
#define TW_RT_LAN_H

#include <thalweg/endpoint.h>

#include "rt/desk.h"

enum { TW_RT_LAN_PORT = 21591, TW_RT_LAN_SEEKS = 16 };

struct tw_rt_lan {
    uv_loop_t *loop;
    struct tw_endpoint *endpoint;
    void (*pump)(void *user);      /* after a verb on the endpoint */
    void *user;
    struct tw_rt_desk *desk;       /* NULL: we are not dialled */
    uint16_t port;                 /* of it */
    char token[23];                /* that lets us have mailboxes there, and nobody else */
    const char *tokens[1];
    int group, own;                /* sockets: of the group (-1: none), and for all that is sent */
    uv_poll_t group_poll, own_poll;
    uv_timer_t timer;              /* asks again */
    struct tw_addr interfaces[TW_ICE_INTERFACES_MAX]; /* IPv4 */
    unsigned interface_n, handles;
    struct seek {
        uint32_t conn;             /* 0: free */
        unsigned times;
        struct tw_key names[TW_LAN_NAMES];
        size_t n;
    } seeks[TW_RT_LAN_SEEKS];
    struct tw_key names[2 * TW_ENDPOINT_INVITES_MAX + 2]; /* ours */
    size_t name_n;
    tw_time named;                 /* when these were computed */
    unsigned asked;                /* queries since then */
    bool over;
};

/* listen: also be found. Failing leaves it off: nobody is found. */
void tw_rt_lan_init(struct tw_rt_lan *l, uv_loop_t *loop, struct tw_endpoint *endpoint, bool listen,
                    void (*pump)(void *user), void *user);
void tw_rt_lan_interfaces(struct tw_rt_lan *l, const struct tw_ice_interface *list, size_t n);
/* Of a SEEK event. */
void tw_rt_lan_seek(struct tw_rt_lan *l, uint32_t conn, struct tw_bytes names);
/* l is used until the loop has nothing left to close. */
void tw_rt_lan_fini(struct tw_rt_lan *l);

#endif
