/* Networks as they are out there: how many peers are behind what.
 *
 * What is published, with its source (figures as in "Published numbers", facts of August 2026):
 *   82 of 100 home routers map all destinations alike for UDP    Ford, Srisuresh, Kegel, USENIX 2005
 *   1 of 3 mobile carriers map each destination otherwise        Klinec, Matyas, SIN 2014
 *   over 90 of 100 mobile networks put a NAT before their users  Richter et al., IMC 2016
 * What is not, and is assumed here, towards the bad side:
 *   half of all peers are mobile; one of 20 has a public address, without or with a firewall
 *   all NATs filter by address and port
 *   of the hard ones a third draw ports by lot, a third count, a third keep the first one
 *   one of ten homes is behind a carrier's NAT of the mobile kind
 *   4 of 100 networks let no UDP out: half of them any TCP, a quarter only 80 and 443, a quarter only TLS
 * and of TCP:
 *   64 of 100 NATs can be punched through for TCP                Ford et al.; here the others do not let
 *                                                                a connection begin on both sides
 * Networks that let out only what goes to a proxy are not in it: there the agent needs a runtime that speaks
 * with proxies, which ours does not yet. */
#ifndef TW_SIM_POPULATION_H
#define TW_SIM_POPULATION_H

#include "world.h"

/* Draws a place; random: any number. */
struct place population_draw(uint64_t random);

#endif
