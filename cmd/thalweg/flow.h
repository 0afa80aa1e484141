/* UDP flows through a connection (docs/protocol.md §6.2): a stream stands for each, its datagrams go as datagrams, and
 * those that are too long for one go by the stream. */
#ifndef THALWEG_FLOW_H
#define THALWEG_FLOW_H

#include <sys/socket.h>

#include "peer.h"

enum { FLOW_MAX = 1024, FLOW_IDLE_S = 180, FLOW_LONGEST = 65507 };

struct flow;

/* What comes for it is sent by fd: to `to`, or, with to NULL, where fd is connected to; then fd is the flow's own, is
 * read by it, and closed with it. waits: the other side's answer comes first, and until then all goes by the stream.
 * on_end: once, with why it was refused or NULL; may be NULL. TW_EFULL, TW_ENOMEM, TW_ESYS: fd is not closed. */
int flow_open(struct peer *p, uint32_t conn, int64_t stream, int fd, const struct sockaddr_storage *to, socklen_t to_n,
              bool waits, void (*on_end)(struct peer *p, const char *why));
/* The flow of those who are at `to`; NULL: there is none. */
struct flow *flow_of(const struct peer *p, const struct sockaddr_storage *to, socklen_t to_n);
/* Sends a datagram to the other side; it may be lost. */
void flow_send(struct flow *f, struct tw_bytes data);
/* Whether the event was for a flow. */
bool flow_event(struct peer *p, const struct tw_endpoint_event *ev);
void flows_end(struct peer *p);

#endif
