#include "rt/ifaces.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>
#include <uv.h>

#include "rt/sockaddr.h"

unsigned tw_rt_own_addrs(struct tw_addr *ret_addrs, unsigned max)
{
    uv_interface_address_t *list;
    int list_n;
    unsigned n = 0;
    if (uv_interface_addresses(&list, &list_n))
        return 0;
    for (int loopback = 0; loopback < 2; loopback++)
        for (int i = 0; i < list_n && n < max; i++) {
            struct sockaddr_storage ss = { 0 };
            memcpy(&ss, &list[i].address, sizeof(list[i].address));
            struct tw_addr a = tw_rt_addr(&ss);
            a.port = 0;
            if (a.family == TW_FAMILY_NONE || tw_addr_is_link_local(&a) ||
                tw_addr_is_loopback(&a) != loopback)
                continue;
            ret_addrs[n++] = a;
        }
    uv_free_interface_addresses(list, list_n);
    return n;
}

unsigned tw_rt_all_addrs(struct tw_addr *ret_addrs, unsigned max)
{
    struct ifaddrs *list;
    unsigned n = 0;
    if (getifaddrs(&list))
        return 0;
    for (const struct ifaddrs *i = list; i && n < max; i = i->ifa_next) {
        struct sockaddr_storage ss = { 0 };
        int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
        if (family != AF_INET && family != AF_INET6)
            continue;
        memcpy(&ss, i->ifa_addr, family == AF_INET ? sizeof(struct sockaddr_in)
                                                   : sizeof(struct sockaddr_in6));
        ret_addrs[n] = tw_rt_addr(&ss);
        ret_addrs[n].port = 0;
        ret_addrs[n++].scope = 0;
    }
    freeifaddrs(list);
    return n;
}
