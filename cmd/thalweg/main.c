/* thalweg: the command for people. */
#include <sodium.h>
#include <string.h>

#include "cmd.h"
#include "version.h"

static const struct verb verbs[] = {
    { "id", cmd_id, "print this machine's address, by which others dial it" },
    { "listen", cmd_listen, "be there to be dialled, and offer something" },
    { "connect", cmd_connect, "connect stdin and stdout with what another machine offers" },
    { "forward", cmd_forward, "make a port here lead to one there; or a SOCKS proxy" },
    { "send", cmd_send, "send files and folders to another machine" },
    { "receive", cmd_receive, "get them" },
    { "invite", cmd_invite, "make a line that lets whoever has it in; list and revoke them" },
    { "ping", cmd_ping, "measure the ways to another machine" },
    { "status", cmd_status, "show the connections of running processes" },
    { "check", cmd_check, "find out what this network lets through, and what to do about it" },
    { "ice", cmd_ice, "connect two machines by ICE, SDP in and out" },
    { "nat", cmd_nat, "find out how the NATs on the way map and filter" },
    { "stun", cmd_stun, "ask a STUN server for this machine's public address" },
    { "turn", cmd_turn, "test a TURN server: allocate, echo through the relay, throughput" },
};
enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void help(FILE *to)
{
    fputs("usage: thalweg VERB [options] ...\n\nVerbs:\n", to);
    for (size_t i = 0; i < VERBS; i++)
        fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].help);
    fputs("\n\"thalweg VERB --help\" tells more. The manual is thalweg(1).\n", to);
}

int main(int argc, char **argv)
{
    if (sodium_init() < 0) {
        fputs("thalweg: libsodium does not start\n", stderr);
        return EXIT_FAILED;
    }
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        help(stdout);
        return EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("thalweg " THALWEG_VERSION);
        return EXIT_OK;
    }
    for (size_t i = 0; i < VERBS; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    fprintf(stderr, "thalweg: there is no verb \"%s\"; see thalweg --help\n", argv[1]);
    return EXIT_USAGE;
}
