#include "../../test.h"

#include <sodium.h>

#include "ident/ident.h"

/* Bytes that are the same in every run. */
static void count_up(void *ctx, void *out, size_t n)
{
    uint8_t *next = ctx, *p = out;
    for (size_t i = 0; i < n; i++)
        p[i] = (*next)++;
}

static uint8_t counter;
static const struct tw_rng rng = { count_up, &counter };

static struct tw_ident ident(uint8_t n)
{
    struct tw_ident id;
    uint8_t seed[TW_SEED_SIZE] = { n };
    assert_ok(tw_ident_init(&id, seed));
    return id;
}

static void an_address_survives_its_text(void **state)
{
    static const char *servers[] = { "", "@example.org", "@example.org:8443", "@[2001:db8::1]:444",
                                     "@ws://192.0.2.1", "@ws://192.0.2.1:8080",
                                     "@example.org#abcdefghijklmnopqrstuvwxya", "+abcdefghijklmnopqrstuvwxya",
                                     "+abcdefghijklmnopqrstuvwxya@example.org:8443",
                                     "@a.example,ws://192.0.2.1,[2001:db8::1]:444#abcdefghijklmnopqrstuvwxya,b" };
    struct tw_ident id = ident(7);
    char key[TW_ADDRESS_LEN + 1], text[400], again[400];
    (void)state;
    tw_key_format(&id.key, key);
    assert_int_equal(strlen(key), TW_ADDRESS_LEN);
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        struct tw_address a;
        const char *why = "";
        snprintf(text, sizeof(text), "%s%s", key, servers[i]);
        if (tw_address_parse(text, &a, &why))
            fail_msg("%s: %s", text, why);
        assert_true(tw_key_eq(&a.key, &id.key));
        assert_ok(tw_address_format(&a, again, sizeof(again)));
        assert_string_equal(text, again);
        for (size_t cap = 0; cap <= strlen(text); cap++)
            assert_int_equal(tw_address_format(&a, again, cap), TW_EFULL);
        assert_int_equal(tw_address_span(text), strlen(text));
        snprintf(again, sizeof(again), "%s:localhost:22", text);
        assert_int_equal(tw_address_span(again), strlen(text));
        snprintf(again, sizeof(again), "%s:[::1]:22", text);
        assert_int_equal(tw_address_span(again), strlen(text));
    }
    for (char *c = key; *c; c++)
        if (*c >= 'a')
            *c = (char)(*c - 'a' + 'A');
    struct tw_address a;
    snprintf(text, sizeof(text), "%s@WSS://Example.ORG/", key);
    memcpy(text + TW_ADDRESS_LEN + 1, "wss://", 6);
    assert_ok(tw_address_parse(text, &a, NULL));
    assert_true(tw_key_eq(&a.key, &id.key));
    assert_string_equal(a.servers[0].host, "example.org");
    assert_int_equal(a.servers[0].port, 443);
}

static void every_typing_error_is_found(void **state)
{
    struct tw_ident id = ident(9);
    char key[TW_ADDRESS_LEN + 1];
    (void)state;
    tw_key_format(&id.key, key);
    unsigned taken = 0;
    for (unsigned i = 0; i < TW_ADDRESS_LEN; i++) {
        struct tw_address a;
        char was = key[i];
        key[i] = was == 'a' ? 'b' : 'a';
        taken += tw_address_parse(key, &a, NULL) == 0;
        key[i] = was;
    }
    assert_int_equal(taken, 0); /* of 56 errors; one in 65,536 may pass, but these are always the same */
}

static void bad_addresses_say_which_part_is_wrong(void **state)
{
    static const struct {
        const char *server, *why;
    } bad[] = {
        { "@", "the server has no name" },
        { "@x,", "the server has no name" },
        { "@a,b,c,d,e", "more than four servers" },
        { "@x:0", "the server's port" },
        { "@x:65536", "the server's port" },
        { "@x:", "the server's port" },
        { "@a b", "the server's name has a character" },
        { "@x/y", "the server's name has a character" },
        { "@x#abc", "the server's pin" },
        { "@ws://x#abcdefghijklmnopqrstuvwxya", "a server without TLS" },
        { "a", "the key is too long" },
    };
    struct tw_ident id = ident(9);
    struct tw_address a;
    char key[TW_ADDRESS_LEN + 1], text[400];
    const char *why;
    (void)state;
    tw_key_format(&id.key, key);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(text, sizeof(text), "%s%s", key, bad[i].server);
        assert_int_equal(tw_address_parse(text, &a, &why), TW_EMALFORMED);
        if (strncmp(why, bad[i].why, strlen(bad[i].why)) != 0)
            fail_msg("%s: %s", text, why);
    }
    assert_int_equal(tw_address_parse("abc@x", &a, &why), TW_EMALFORMED);
    assert_string_equal(why, "the key is too short: it has 56 letters and digits");
    key[3] = '1';
    assert_int_equal(tw_address_parse(key, &a, &why), TW_EMALFORMED);
    assert_non_null(strstr(why, "only a to z and 2 to 7"));
}

static void a_signature_is_for_one_purpose(void **state)
{
    struct tw_ident id = ident(1), other = ident(2);
    uint8_t sig[TW_SIG_SIZE];
    const struct tw_bytes parts[] = { tw_bytes_str("ab"), tw_bytes_str("c") };
    const struct tw_bytes shifted[] = { tw_bytes_str("a"), tw_bytes_str("bc") };
    (void)state;
    assert_ok(tw_ident_sign(&id, TW_FOR_OFFER, parts, 2, sig));
    assert_true(tw_key_verify(&id.key, TW_FOR_OFFER, parts, 2, sig));
    assert_false(tw_key_verify(&id.key, TW_FOR_PREKEY, parts, 2, sig));
    assert_false(tw_key_verify(&id.key, TW_FOR_OFFER, shifted, 2, sig));
    assert_false(tw_key_verify(&other.key, TW_FOR_OFFER, parts, 2, sig));
}

static void a_mailbox_is_its_owners_and_of_one_day_and_server(void **state)
{
    struct tw_ident id = ident(1), other = ident(2);
    const struct tw_mailbox_of of[] = {
        { 20000, "a.example", { 0 } },
        { 20001, "a.example", { 0 } },
        { 20000, "b.example", { 0 } },
        { 20000, "a.example", tw_bytes_str("invited") },
    };
    struct tw_key name[ARRAY_LEN(of)], theirs;
    uint8_t sig[TW_SIG_SIZE];
    struct tw_bytes msg = tw_bytes_str("challenge");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(of); i++) {
        assert_ok(tw_mailbox_name(&id.key, &of[i], &name[i]));
        assert_false(tw_key_eq(&name[i], &id.key));
        for (size_t k = 0; k < i; k++)
            assert_false(tw_key_eq(&name[i], &name[k]));
        assert_ok(tw_mailbox_sign(&id, &of[i], msg, sig));
        assert_true(tw_mailbox_verify(&name[i], msg, sig));
        assert_false(tw_mailbox_verify(&name[i], tw_bytes_str("challengf"), sig));
        assert_false(tw_mailbox_verify(&id.key, msg, sig));
        assert_ok(tw_mailbox_sign(&other, &of[i], msg, sig));
        assert_false(tw_mailbox_verify(&name[i], msg, sig));
    }
    for (unsigned n = 0; n < 100; n++) { /* whatever the scalar is */
        struct tw_ident many = ident((uint8_t)(n + 10));
        assert_ok(tw_mailbox_name(&many.key, &of[0], &theirs));
        assert_ok(tw_mailbox_sign(&many, &of[0], msg, sig));
        assert_true(tw_mailbox_verify(&theirs, msg, sig));
    }
    struct tw_key no_point = { { 2 } };
    assert_int_equal(tw_mailbox_name(&no_point, &of[0], &theirs), TW_EMALFORMED);
}

static void what_is_sealed_opens_for_one(void **state)
{
    struct tw_ident id = ident(1), other = ident(2);
    struct tw_prekey days[2], read;
    uint8_t wire[TW_PREKEY_WIRE], box[5 + TW_SEAL_OVERHEAD], out[5];
    (void)state;
    tw_prekey_make(&days[0], 20000, &rng);
    tw_prekey_make(&days[1], 20001, &rng);
    assert_ok(tw_prekey_publish(&days[1], &id, wire));
    assert_ok(tw_prekey_read(tw_bytes(wire, sizeof(wire)), &id.key, &read));
    assert_int_equal(read.epoch, 20001);
    assert_int_equal(tw_prekey_read(tw_bytes(wire, sizeof(wire)), &other.key, &read), TW_EAUTH);
    assert_int_equal(tw_prekey_read(tw_bytes(wire, 9), &id.key, &read), TW_EMALFORMED);

    assert_ok(tw_seal(&id.key, NULL, &rng, tw_bytes("hello", 5), box));
    assert_ok(tw_seal_open(&id, days, 2, tw_bytes(box, sizeof(box)), out));
    assert_memory_equal(out, "hello", 5);
    assert_int_equal(tw_seal_open(&other, days, 2, tw_bytes(box, sizeof(box)), out), TW_EAUTH);

    assert_ok(tw_seal(&id.key, &days[1], &rng, tw_bytes("hello", 5), box));
    assert_ok(tw_seal_open(&id, days, 2, tw_bytes(box, sizeof(box)), out));
    assert_int_equal(tw_seal_open(&id, days, 1, tw_bytes(box, sizeof(box)), out), TW_EAUTH); /* erased */
    for (size_t i = 0; i < sizeof(box); i++) {
        box[i] ^= 1;
        assert_int_equal(tw_seal_open(&id, days, 2, tw_bytes(box, sizeof(box)), out), TW_EAUTH);
        box[i] ^= 1;
    }
    for (size_t n = 0; n < sizeof(box); n++)
        assert_int_equal(tw_seal_open(&id, days, 2, tw_bytes(box, n), out), TW_EAUTH);
}

static void a_box_opens_once_and_in_order(void **state)
{
    uint8_t secret[32] = { 3 }, first[3 + TW_BOX_OVERHEAD], second[3 + TW_BOX_OVERHEAD], out[3];
    struct tw_box to, from, back;
    (void)state;
    tw_box_init(&to, secret, "there");
    tw_box_init(&from, secret, "there");
    tw_box_init(&back, secret, "back");
    tw_box_seal(&to, tw_bytes("one", 3), first);
    tw_box_seal(&to, tw_bytes("two", 3), second);
    assert_int_equal(tw_box_open(&back, tw_bytes(first, sizeof(first)), out), TW_EAUTH);
    assert_ok(tw_box_open(&from, tw_bytes(first, sizeof(first)), out));
    assert_memory_equal(out, "one", 3);
    assert_int_equal(tw_box_open(&from, tw_bytes(first, sizeof(first)), out), TW_EAUTH);
    second[9] ^= 1;
    assert_int_equal(tw_box_open(&from, tw_bytes(second, sizeof(second)), out), TW_EAUTH);
    second[9] ^= 1;
    assert_ok(tw_box_open(&from, tw_bytes(second, sizeof(second)), out));
    assert_int_equal(tw_box_open(&from, tw_bytes(second, TW_BOX_OVERHEAD - 1), out), TW_EAUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_survives_its_text),
        cmocka_unit_test(every_typing_error_is_found),
        cmocka_unit_test(bad_addresses_say_which_part_is_wrong),
        cmocka_unit_test(a_signature_is_for_one_purpose),
        cmocka_unit_test(a_mailbox_is_its_owners_and_of_one_day_and_server),
        cmocka_unit_test(what_is_sealed_opens_for_one),
        cmocka_unit_test(a_box_opens_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
