/* Between the kernel's addresses and ours. */
#ifndef TW_RT_SOCKADDR_H
#define TW_RT_SOCKADDR_H

#include <sys/socket.h>

#include <thalweg/addr.h>

/* Returns the length written. */
socklen_t tw_rt_sockaddr(const struct tw_addr *a, struct sockaddr_storage *ret);

/* ::ffff:a.b.c.d becomes a.b.c.d; family TW_FAMILY_NONE for anything that is not IP. */
struct tw_addr tw_rt_addr(const struct sockaddr_storage *ss);

#endif
