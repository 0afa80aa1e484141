/* Looks attribute types up in the table of <thalweg/stun.h>. */
#ifndef TW_STUN_ATTR_H
#define TW_STUN_ATTR_H

#include <thalweg/stun.h>

/* enum tw_stun_attr of a wire type, -1 when it is not in the table. */
int tw_stun_attr_find(uint16_t type);

#endif
