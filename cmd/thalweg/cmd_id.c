#include <sodium.h>

#include "peer.h"

int cmd_id(int argc, char **argv)
{
    static const char usage[] =
        "usage: thalweg id [options]\n\n"
        "Prints this side's address: give it to those who are to dial you. The key is made if there is\n"
        "none yet.\n\n";
    static struct peer_options o;
    const struct cmd_option options[] = {
        { "-s,--server", "URL", &o.servers, 1, 0, "with this rendezvous in it; may be given again" },
        { "--key", "FILE", &o.key, 0, 0, "the key file (default: ~/.config/thalweg/key)" },
        { "--json", NULL, &o.json, 0, 0, "as JSON" },
        { NULL },
    };
    uint8_t seed[TW_SEED_SIZE];
    char path[4096], text[TW_ADDRESS_TEXT_MAX];
    static struct tw_endpoint_config cfg;
    struct tw_ident id;
    bool done, made;
    int status = cmd_read(argc, argv, usage, options, NULL, &done);
    if (status || done)
        return status;
    status = peer_take_servers(&o, &cfg);
    if (status)
        return status;
    status = key_load(o.key, seed, path, sizeof(path), &made);
    if (status)
        return status;
    if (tw_ident_init(&id, seed))
        return EXIT_FAILED;
    struct tw_address a = tw_address_of(&id.key, cfg.servers, cfg.server_n);
    sodium_memzero(seed, sizeof(seed));
    tw_ident_fini(&id);
    if (tw_address_format(&a, text, sizeof(text)))
        return EXIT_FAILED;
    if (o.json) {
        printf("{\"address\":\"%s\",\"file\":", text);
        cmd_json_string(stdout, path);
        printf(",\"new\":%s}\n", made ? "true" : "false");
    } else {
        puts(text);
    }
    return EXIT_OK;
}
