/* Runs a tape of an ICE agent (docs/internals/tape.md) again. */
#ifndef TW_SIM_REPLAY_H
#define TW_SIM_REPLAY_H

#include <stdio.h>

#include <thalweg/ice.h>

struct replay {
    unsigned inputs, sent;  /* lines given to the agent, datagrams it sent */
    unsigned wrong;         /* the line of the tape that says otherwise than the agent did; 0: none */
    unsigned bad;           /* the first line that is none of a tape; 0: none */
    struct tw_ice *ice;     /* as it was at the end; the caller frees it */
};

/* Reads a tape and runs it. verbose: every line and what came of it. False: it is no tape; ret_replay->bad says where. */
bool replay_run(FILE *in, bool verbose, struct replay *ret_replay);

#endif
