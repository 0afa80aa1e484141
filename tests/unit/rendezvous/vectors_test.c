/* docs/protocol.md in numbers: tests/vectors/protocol.txt, "name hex" a line. `vectors_test --write` prints it. */
#include "../../test.h"

#include <sodium.h>

#include "ident/ident.h"
#include "rendezvous/offer.h"
#include "rendezvous/wire.h"

static uint8_t counter;
static void count_up(void *ctx, void *out, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = counter++;
}
static const struct tw_rng rng = { count_up, NULL };

static struct {
    char name[40], hex[2 * TW_OFFER_SEALED_MAX + 1];
} made[20];
static unsigned made_n;

static void add(const char *name, const void *p, size_t n)
{
    snprintf(made[made_n].name, sizeof(made[0].name), "%s", name);
    sodium_bin2hex(made[made_n++].hex, sizeof(made[0].hex), p, n);
}

static void make(void)
{
    static uint8_t sealed[TW_OFFER_SEALED_MAX];
    uint8_t seeds[2][TW_SEED_SIZE], sig[TW_SIG_SIZE], msg[TW_RDV_SIGNED], challenge[32], wire[TW_PREKEY_WIRE];
    struct tw_ident a, b;
    struct tw_key name;
    struct tw_prekey prekey;
    char text[TW_ADDRESS_LEN + 1];
    size_t n;
    for (int i = 0; i < 32; i++) {
        seeds[0][i] = (uint8_t)i;
        seeds[1][i] = (uint8_t)(0x80 + i);
        challenge[i] = (uint8_t)(0x40 + i);
    }
    assert_ok(tw_ident_init(&a, seeds[0]));
    assert_ok(tw_ident_init(&b, seeds[1]));
    add("seed-a", seeds[0], 32);
    add("key-a", a.key.b, 32);
    add("key-b", b.key.b, 32);
    tw_key_format(&a.key, text);
    add("address-a-text", text, TW_ADDRESS_LEN);
    const struct tw_mailbox_of of = { 20000, "desk.example", tw_bytes(NULL, 0) };
    assert_ok(tw_mailbox_name(&a.key, &of, &name));
    add("mailbox-a-20000-desk.example", name.b, 32);
    tw_rdv_signed(challenge, msg);
    assert_ok(tw_mailbox_sign(&a, &of, tw_bytes(msg, sizeof(msg)), sig));
    assert_true(tw_mailbox_verify(&name, tw_bytes(msg, sizeof(msg)), sig));
    add("register-signature", sig, sizeof(sig));
    counter = 0;
    tw_prekey_make(&prekey, 20000, &rng);
    add("prekey-secret", prekey.secret, 32);
    assert_ok(tw_prekey_publish(&prekey, &b, wire));
    add("prekey-published-by-b", wire, sizeof(wire));
    struct tw_word offer = { .kind = TW_WORD_OFFER, .caller = a.key, .unix_ms = 1728000000000, .ufrag = "abcd",
                             .pwd = "0123456789abcdefghijkl", .candidate_n = 1, .end = true,
                             .early = tw_bytes_str("early") };
    memset(offer.secret, 0x11, sizeof(offer.secret));
    offer.candidate[0] = (struct tw_ice_candidate){ .addr = ip("192.0.2.1:4000"), .priority = 2130706431,
                                                    .component = 1, .foundation = "1" };
    assert_ok(tw_offer_seal(&offer, &a, &b.key, NULL, &rng, sealed, &n));
    add("offer-a-to-b", sealed, n);
    assert_ok(tw_offer_seal(&offer, &a, &b.key, &prekey, &rng, sealed, &n));
    add("offer-a-to-b-with-prekey", sealed, n);
    struct tw_box box;
    tw_box_init(&box, offer.secret, "thalweg from callee");
    struct tw_word more = { .kind = TW_WORD_MORE, .end = true };
    assert_ok(tw_word_seal(&more, &box, sealed, &n));
    add("word-end-from-callee", sealed, n);
}

static void the_protocol_is_as_published(void **state)
{
    char name[40];
    static char hex[2 * TW_OFFER_SEALED_MAX + 1];
    unsigned n = 0;
    FILE *f = fopen(getenv("VECTORS") ? getenv("VECTORS") : "tests/vectors/protocol.txt", "r");
    (void)state;
    assert_non_null(f);
    make();
    while (fscanf(f, " %39s %16000s", name, hex) == 2) {
        assert_true(n < made_n);
        assert_string_equal(made[n].name, name);
        assert_string_equal(made[n].hex, hex);
        n++;
    }
    fclose(f);
    assert_int_equal(n, made_n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_protocol_is_as_published) };
    if (argc == 2 && !strcmp(argv[1], "--write")) {
        make();
        for (unsigned i = 0; i < made_n; i++)
            printf("%s %s\n", made[i].name, made[i].hex);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
