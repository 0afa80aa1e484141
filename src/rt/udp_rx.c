#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>

#include "rt/sockaddr.h"
#include "rt/udp.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* A run fills up to 64 KiB. The odd stride keeps the first bytes of all buffers out of the same
 * cache set; pages that no run reaches are never touched. */
enum { BUF = 65536, STRIDE = BUF + 4096 + 256 };

int tw_rt_rx_init(struct tw_rt_rx *rx)
{
    memset(rx, 0, sizeof(*rx));
    rx->memory_n = (size_t)(TW_RT_RX_MAX + TW_RT_RX_TAKE) * STRIDE;
    void *p = mmap(NULL, rx->memory_n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return TW_ENOMEM;
    rx->memory = p;
    for (unsigned i = 0; i < TW_RT_RX_MAX; i++) {
        rx->iov[i] = (struct iovec){ rx->memory + (size_t)i * STRIDE, BUF };
        rx->msgs[i].msg_hdr = (struct msghdr){ .msg_name = &rx->names[i],
                                               .msg_iov = &rx->iov[i],
                                               .msg_iovlen = 1,
                                               .msg_control = rx->control[i] };
    }
    return 0;
}

void tw_rt_rx_fini(struct tw_rt_rx *rx)
{
    if (rx->memory)
        munmap(rx->memory, rx->memory_n);
    rx->memory = NULL;
}

void tw_rt_rx_reset(struct tw_rt_rx *rx)
{
    rx->used = rx->taken = 0;
}

uint8_t *tw_rt_rx_take(struct tw_rt_rx *rx)
{
    if (rx->taken == TW_RT_RX_TAKE)
        return NULL;
    return rx->memory + (size_t)(TW_RT_RX_MAX + rx->taken++) * STRIDE;
}

void tw_rt_rx_give(struct tw_rt_rx *rx)
{
    rx->taken = 0;
}

/* A read that was filled to the brim asks for more next time, one that was not for what it got:
 * a second empty-handed look into the socket costs a tenth of a packet. */
static void learn_burst(struct tw_rt_udp *u, unsigned asked, unsigned got)
{
    if (got == asked && asked >= u->burst)
        u->burst = (uint16_t)(u->burst < TW_RT_RX_MAX / 2 ? 2 * u->burst : TW_RT_RX_MAX);
    else if (got < asked)
        u->burst = (uint16_t)(got > u->min_burst ? got : u->min_burst);
}

unsigned tw_rt_rx_read(struct tw_rt_rx *rx, struct tw_rt_udp *u)
{
    unsigned room = TW_RT_RX_MAX - rx->used;
    unsigned ask = u->burst < room ? u->burst : room;
    struct mmsghdr *m = &rx->msgs[rx->used];
    for (unsigned i = 0; i < ask; i++) {
        m[i].msg_hdr.msg_namelen = sizeof(rx->names[0]);
        m[i].msg_hdr.msg_controllen = sizeof(rx->control[0]);
    }
    int got = recvmmsg(u->fd, m, ask, MSG_DONTWAIT, NULL);
    rx->from = u;
    rx->first = rx->used;
    rx->n = got > 0 ? (unsigned)got : 0;
    rx->used += rx->n;
    learn_burst(u, ask, rx->n);
    return rx->n;
}

static void read_control(struct msghdr *h, struct tw_datagram *d)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        int v = 0;
        size_t n = c->cmsg_len - CMSG_LEN(0);
        memcpy(&v, CMSG_DATA(c), n < sizeof(v) ? n : sizeof(v));
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            d->tos = (uint8_t)v;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) {
            d->ttl = (uint8_t)v;
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            d->segment = (uint16_t)v;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            memcpy(d->dst.ip, &info.ipi_addr, 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            d->tos = (uint8_t)v;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT) {
            d->ttl = (uint8_t)v;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            memcpy(d->dst.ip, &info.ipi6_addr, 16);
        }
    }
}

void tw_rt_rx_get(struct tw_rt_rx *rx, unsigned i, struct tw_datagram *ret)
{
    unsigned k = rx->first + i;
    struct mmsghdr *m = &rx->msgs[k];
    rx->bytes[k] = tw_bytes(rx->iov[k].iov_base, m->msg_len);
    *ret = (struct tw_datagram){ .sock = rx->from->id,
                                 .src = tw_rt_addr(&rx->names[k]),
                                 .dst = rx->from->local,
                                 .iov = &rx->bytes[k],
                                 .iov_n = 1 };
    read_control(&m->msg_hdr, ret);
    if (ret->segment >= m->msg_len)
        ret->segment = 0;
}
