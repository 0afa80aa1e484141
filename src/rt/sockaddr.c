#include "rt/sockaddr.h"

#include <netinet/in.h>
#include <string.h>

socklen_t tw_rt_sockaddr(const struct tw_addr *a, struct sockaddr_storage *ret)
{
    if (a->family == TW_FAMILY_V4) {
        struct sockaddr_in *sin = (struct sockaddr_in *)ret;
        memset(sin, 0, sizeof(*sin));
        sin->sin_family = AF_INET;
        sin->sin_port = htons(a->port);
        memcpy(&sin->sin_addr, a->ip, 4);
        return sizeof(*sin);
    }
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret;
    memset(sin6, 0, sizeof(*sin6));
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons(a->port);
    sin6->sin6_scope_id = a->scope;
    memcpy(&sin6->sin6_addr, a->ip, 16);
    return sizeof(*sin6);
}

struct tw_addr tw_rt_addr(const struct sockaddr_storage *ss)
{
    struct tw_addr a = { 0 };
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *sin = (const struct sockaddr_in *)ss;
        a.family = TW_FAMILY_V4;
        a.port = ntohs(sin->sin_port);
        memcpy(a.ip, &sin->sin_addr, 4);
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)ss;
        a.port = ntohs(sin6->sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
            a.family = TW_FAMILY_V4;
            memcpy(a.ip, sin6->sin6_addr.s6_addr + 12, 4);
            return a;
        }
        a.family = TW_FAMILY_V6;
        a.scope = IN6_IS_ADDR_LINKLOCAL(&sin6->sin6_addr) ? sin6->sin6_scope_id : 0;
        memcpy(a.ip, &sin6->sin6_addr, 16);
    }
    return a;
}
