#include "population.h"

/* The next decision, `of` sides to the die. */
static unsigned draw(uint64_t *x, unsigned of)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((z ^ z >> 31) % of);
}

static struct sim_nat_kind hard(uint64_t *x)
{
    static const enum sim_ports ports[] = { SIM_PORTS_RANDOM, SIM_PORTS_SEQUENTIAL,
                                            SIM_PORTS_PRESERVED };
    return (struct sim_nat_kind){ .mapping = SIM_ADDRESS_AND_PORT,
                                  .filtering = SIM_ADDRESS_AND_PORT, .ports = ports[draw(x, 3)] };
}

static struct sim_nat_kind easy(uint64_t *x)
{
    static const enum sim_ports ports[] = { SIM_PORTS_PRESERVED, SIM_PORTS_RANDOM };
    return (struct sim_nat_kind){ .filtering = SIM_ADDRESS_AND_PORT, .ports = ports[draw(x, 2)] };
}

static struct sim_nat_kind carrier(uint64_t *x)
{
    return draw(x, 3) ? easy(x) : hard(x);
}

/* What it lets out, after all else has been drawn. */
static struct place limit(struct place p, uint64_t *x)
{
    p.nat.no_simultaneous = draw(x, 100) >= 64;
    p.outer.no_simultaneous = draw(x, 100) >= 64;
    if (draw(x, 100) >= 4)
        return p;
    if (!p.natted)
        p.nat = (struct sim_nat_kind){ .firewall = true, .filtering = SIM_ADDRESS_AND_PORT };
    p.natted = p.nat.no_udp = true;
    switch (draw(x, 4)) {
    case 0:
        p.nat.only_ports[0] = 80;
        p.nat.only_ports[1] = 443;
        break;
    case 1:
        p.nat.only_ports[0] = 443;
        p.nat.tls_only = true;
        break;
    default:
        break;
    }
    return p;
}

static struct place draw_place(uint64_t *x)
{
    struct place p = { .link = { .delay = (tw_time)(5 + draw(x, 45)) * TW_MSEC,
                                 .jitter = 2 * TW_MSEC, .loss = draw(x, 20) } };
    if (draw(x, 20) == 0) {
        p.natted = draw(x, 2); /* a firewall */
        p.nat = (struct sim_nat_kind){ .firewall = true, .filtering = SIM_ADDRESS_AND_PORT };
        return p;
    }
    p.natted = true;
    if (draw(x, 2) && draw(x, 10)) { /* mobile: nine of ten behind the carrier's NAT alone */
        p.nat = carrier(x);
        p.link.delay += 20 * TW_MSEC;
        return p;
    }
    p.nat = draw(x, 100) < 82 ? easy(x) : hard(x);
    p.carrier = draw(x, 10) == 0;
    if (p.carrier)
        p.outer = carrier(x);
    return p;
}

struct place population_draw(uint64_t random)
{
    uint64_t x = random;
    struct place p = draw_place(&x);
    return limit(p, &x);
}
