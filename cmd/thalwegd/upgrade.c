#include "upgrade.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "rt/fdpass.h"

struct head {
    uint8_t keys[TW_RELAY_KEYS];
    uint32_t relay_n, workers, socket_n;
};

struct ports {
    struct tw_addr ip;
    uint8_t bits[TW_RELAY_PORT_BITS];
};

struct socket_of {
    int type;
    struct tw_addr addr;
};

static bool give(int channel, const void *p, size_t n, int fd)
{
    return tw_rt_send_fd(channel, p, n, fd, 0);
}

/* ret_fd NULL: none is to come. */
static bool take(int channel, void *p, size_t n, int *ret_fd)
{
    int fd;
    if (!tw_rt_recv_fd(channel, p, n, &fd, 0))
        return false;
    if (ret_fd)
        *ret_fd = fd;
    return (fd >= 0) == (ret_fd != NULL);
}

bool upgrade_say(int channel, char what)
{
    return give(channel, &what, 1, -1);
}

bool upgrade_give(int channel, struct tw_rt_server *server)
{
    static struct upgrade u;
    if (tw_rt_server_bequeath(server, &u.legacy, u.heirs))
        return false;
    u.socket_n = tw_rt_server_sockets(server, u.sockets, UPGRADE_SOCKETS);
    struct head head = { .relay_n = u.legacy.relay_n, .workers = u.legacy.workers,
                         .socket_n = u.socket_n };
    memcpy(head.keys, u.legacy.keys, sizeof(head.keys));
    bool ok = give(channel, &head, sizeof(head), -1);
    for (uint32_t i = 0; i < head.relay_n && ok; i++) {
        struct ports ports = { .ip = u.legacy.ports[i].ip };
        memcpy(ports.bits, u.legacy.ports[i].bits, sizeof(ports.bits));
        ok = give(channel, &ports, sizeof(ports), -1);
    }
    for (unsigned i = 0; i < head.socket_n && ok; i++) {
        const struct socket_of s = { u.sockets[i].type, u.sockets[i].addr };
        ok = give(channel, &s, sizeof(s), u.sockets[i].fd);
    }
    for (uint32_t i = 0; i < head.workers && ok; i++)
        ok = give(channel, &i, sizeof(i), u.heirs[i]);
    return ok;
}

bool upgrade_take(int channel, struct upgrade *u)
{
    enum { WAIT_SEC = 10 };
    struct timeval wait = { .tv_sec = WAIT_SEC };
    struct head head;
    setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    if (!upgrade_say(channel, 'h') || !take(channel, &head, sizeof(head), NULL) ||
        head.relay_n > TW_RELAY_MAX_ADDRS || head.workers > TW_RELAY_MAX_WORKERS ||
        head.socket_n > UPGRADE_SOCKETS)
        return false;
    memcpy(u->legacy.keys, head.keys, sizeof(head.keys));
    u->legacy.relay_n = head.relay_n;
    u->legacy.workers = head.workers;
    u->socket_n = head.socket_n;
    for (uint32_t i = 0; i < head.relay_n; i++) {
        struct ports ports;
        if (!take(channel, &ports, sizeof(ports), NULL))
            return false;
        u->legacy.ports[i].ip = ports.ip;
        memcpy(u->legacy.ports[i].bits, ports.bits, sizeof(ports.bits));
    }
    for (unsigned i = 0; i < head.socket_n; i++) {
        struct socket_of s;
        if (!take(channel, &s, sizeof(s), &u->sockets[i].fd))
            return false;
        u->sockets[i].type = s.type;
        u->sockets[i].addr = s.addr;
    }
    for (uint32_t i = 0, number; i < head.workers; i++)
        if (!take(channel, &number, sizeof(number), &u->heirs[i]))
            return false;
    return true;
}
