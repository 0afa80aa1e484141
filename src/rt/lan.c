#include "rt/lan.h"

#include <netinet/in.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/os.h"
#include "rt/sockaddr.h"

enum { TIMES = 4, EVERY_MS = 60, NAMES_FOR_S = 60, ASKED_MAX = 600 };

static struct sockaddr_in group_address(void)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(TW_RT_LAN_PORT) };
    sin.sin_addr.s_addr = htonl(0xefff5457); /* 239.255.84.87: of local scope (RFC 2365 §6.1) */
    return sin;
}

/* --- asking ------------------------------------------------------------------------------------------ */

static void ask(struct tw_rt_lan *l, const struct seek *s)
{
    uint8_t out[TW_LAN_MAX];
    size_t n = tw_lan_question(s->names, s->n, out);
    struct sockaddr_in to = group_address();
    for (unsigned i = 0; i < l->interface_n; i++) {
        struct in_addr from;
        memcpy(&from, l->interfaces[i].ip, 4);
        if (!setsockopt(l->own, IPPROTO_IP, IP_MULTICAST_IF, &from, sizeof(from)))
            (void)!sendto(l->own, out, n, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to));
    }
}

static void on_timer(uv_timer_t *t)
{
    struct tw_rt_lan *l = t->data;
    bool more = false;
    for (int i = 0; i < TW_RT_LAN_SEEKS; i++) {
        struct seek *s = &l->seeks[i];
        if (!s->conn)
            continue;
        if (s->times++ == TIMES) {
            s->conn = 0;
            continue;
        }
        ask(l, s);
        more = true;
    }
    if (more)
        uv_timer_start(t, on_timer, EVERY_MS, 0);
}

void tw_rt_lan_seek(struct tw_rt_lan *l, uint32_t conn, struct tw_bytes names)
{
    struct seek *s = l->seeks;
    while (s < l->seeks + TW_RT_LAN_SEEKS && s->conn)
        s++;
    if (l->own < 0 || s == l->seeks + TW_RT_LAN_SEEKS || names.n > sizeof(s->names))
        return;
    *s = (struct seek){ .conn = conn, .times = 1, .n = names.n / TW_KEY_SIZE };
    memcpy(s->names, names.p, names.n);
    ask(l, s);
    uv_timer_start(&l->timer, on_timer, EVERY_MS, 0);
}

static void on_answer(struct tw_rt_lan *l, struct tw_bytes in, const struct tw_addr *from)
{
    struct tw_addr at = *from;
    struct tw_key name;
    if (!tw_lan_read_answer(in, &name, &at.port))
        return;
    for (int i = 0; i < TW_RT_LAN_SEEKS; i++) {
        struct seek *s = &l->seeks[i];
        for (size_t k = 0; s->conn && k < s->n; k++)
            if (tw_key_eq(&s->names[k], &name)) {
                uint32_t conn = s->conn;
                s->conn = 0;
                tw_endpoint_found(l->endpoint, tw_rt_now(), conn, &at);
            }
    }
}

/* --- answering ---------------------------------------------------------------------------------------- */

static void learn_names(struct tw_rt_lan *l)
{
    tw_time now = tw_rt_now();
    if (l->named && now - l->named < NAMES_FOR_S * TW_SEC && l->asked % 16) /* invites come and go */
        return;
    l->name_n = tw_endpoint_names(l->endpoint, l->names, sizeof(l->names) / sizeof(l->names[0]));
    if (!l->named || now - l->named >= NAMES_FOR_S * TW_SEC) {
        l->named = now;
        l->asked = 0;
    }
}

static void on_question(struct tw_rt_lan *l, struct tw_bytes in, const struct tw_addr *from)
{
    uint8_t out[TW_LAN_MAX];
    struct tw_key names[TW_LAN_NAMES];
    struct sockaddr_storage ss;
    size_t n = tw_lan_read_question(in, names);
    if (n == 0)
        return;
    learn_names(l);
    if (l->asked++ > ASKED_MAX)
        return;
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < l->name_n; i++)
            if (tw_key_eq(&l->names[i], &names[k])) {
                size_t out_n = tw_lan_answer(&names[k], l->port, out);
                socklen_t ss_n = tw_rt_sockaddr(from, &ss);
                (void)!sendto(l->own, out, out_n, MSG_DONTWAIT, (struct sockaddr *)&ss, ss_n);
                return;
            }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct tw_rt_lan *l = poll->data;
    bool asks = poll == &l->group_poll;
    uint8_t buf[1500];
    (void)status, (void)events;
    for (int i = 0; i < 32; i++) {
        struct sockaddr_storage ss = { 0 };
        socklen_t ss_n = sizeof(ss);
        ssize_t n = recvfrom(asks ? l->group : l->own, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&ss, &ss_n);
        if (n < 0)
            break;
        struct tw_addr from = tw_rt_addr(&ss);
        if (asks)
            on_question(l, tw_bytes(buf, (size_t)n), &from);
        else
            on_answer(l, tw_bytes(buf, (size_t)n), &from);
    }
    l->pump(l->user);
}

/* --- life ------------------------------------------------------------------------------------------------ */

/* Closes what can't be watched. */
static void watch(struct tw_rt_lan *l, uv_poll_t *poll, int *fd)
{
    if (*fd < 0)
        return;
    if (tw_rt_watch(l->loop, poll, *fd, UV_READABLE, on_readable, l)) {
        close(*fd);
        *fd = -1;
        return;
    }
    uv_unref((uv_handle_t *)poll);
    l->handles++;
}

/* The rendezvous that this program is, for its own network. */
static bool open_desk(struct tw_rt_lan *l)
{
    uint8_t random[16];
    struct tw_rt_desk_config cfg = { .listener_n = 1, .listener[0].addr = { .family = TW_FAMILY_V4 },
                                     .private_only = true,
                                     .desk = { .token_n = 1, .tokens = l->tokens, .max_clients = 64, .max_per_source = 8,
                                               .patch_rate = 1 << 20 } };
    int bad;
    randombytes_buf(random, sizeof(random));
    sodium_bin2base64(l->token, sizeof(l->token), random, sizeof(random), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    l->tokens[0] = l->token;
    if (tw_rt_desk_new(&cfg, l->loop, &l->desk, &bad))
        return false;
    l->port = tw_rt_desk_listener(l->desk, 0).port;
    struct tw_addr here = tw_addr_v4(127, 0, 0, 1, l->port);
    return !tw_endpoint_desk(l->endpoint, tw_rt_now(), &here, l->token);
}

static int open_group(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(TW_RT_LAN_PORT) };
    int one = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    at.sin_addr = group_address().sin_addr; /* what is sent to one host alone is not for it */
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
                    bind(fd, (struct sockaddr *)&at, sizeof(at)))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void tw_rt_lan_init(struct tw_rt_lan *l, uv_loop_t *loop, struct tw_endpoint *endpoint, bool listen,
                    void (*pump)(void *user), void *user)
{
    *l = (struct tw_rt_lan){ .loop = loop, .endpoint = endpoint, .pump = pump, .user = user, .group = -1 };
    unsigned char ttl = 1;
    uv_timer_init(loop, &l->timer);
    uv_unref((uv_handle_t *)&l->timer);
    l->timer.data = l;
    l->handles = 1;
    l->own = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)!setsockopt(l->own, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof(ttl));
    watch(l, &l->own_poll, &l->own);
    if (l->own < 0 || !listen || !open_desk(l))
        return;
    l->group = open_group();
    watch(l, &l->group_poll, &l->group);
}

void tw_rt_lan_interfaces(struct tw_rt_lan *l, const struct tw_ice_interface *list, size_t n)
{
    l->interface_n = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tw_addr *ip = &list[i].ip;
        struct ip_mreq join = { .imr_multiaddr = group_address().sin_addr };
        if (ip->family != TW_FAMILY_V4 || tw_addr_is_loopback(ip))
            continue;
        memcpy(&join.imr_interface, ip->ip, 4);
        if (l->group >= 0) /* fails where it is joined already */
            (void)!setsockopt(l->group, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join));
        l->interfaces[l->interface_n++] = *ip;
    }
}

static void on_closed(uv_handle_t *h)
{
    struct tw_rt_lan *l = h->data;
    if (--l->handles)
        return;
    if (l->group >= 0)
        close(l->group);
    if (l->own >= 0)
        close(l->own);
}

void tw_rt_lan_fini(struct tw_rt_lan *l)
{
    if (l->over)
        return;
    l->over = true;
    tw_rt_desk_free(l->desk);
    if (l->group >= 0)
        uv_close((uv_handle_t *)&l->group_poll, on_closed);
    if (l->own >= 0)
        uv_close((uv_handle_t *)&l->own_poll, on_closed);
    uv_close((uv_handle_t *)&l->timer, on_closed);
}
