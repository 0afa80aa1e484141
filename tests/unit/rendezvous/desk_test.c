#include "../../test.h"

#include "ident/ident.h"
#include "rendezvous/client.h"
#include "rendezvous/offer.h"
#include "rendezvous/server.h"

enum { USERS = 40 };
#define NOON ((uint64_t)20000 * 86400000 + 43200000)

static const struct tw_env env = { .rng = { test_random, NULL } };

/* Users of one desk, and the last event of each kind that each of them saw. */
static struct desk_world {
    struct tw_desk *desk;
    tw_time now;
    struct user {
        struct tw_ident id;
        struct tw_rdv *rdv;
        bool closed, hello;
        unsigned registered, replaced, denied, calls, signals, datagrams, gone, drained, servers;
        uint32_t call;
        unsigned reason;
        char body[64], username[64], realm[64];
    } user[USERS];
} w;

static const char *const tokens[] = { "sesame" };

static void open_desk(bool open)
{
    static const struct tw_rdv_server servers[] = {
        { .addr = { .family = TW_FAMILY_V4, .port = 3478 } },
        { .turn = true, .addr = { .family = TW_FAMILY_V4, .port = 3478 }, .realm = { (const uint8_t *)"r", 1 } },
    };
    const struct tw_desk_config cfg = { .open = open, .tokens = tokens, .token_n = 1, .servers = servers,
                                        .server_n = 2, .secret = tw_bytes_str("s3cret"), .lifetime = 600,
                                        .max_clients = USERS, .max_per_source = 4, .patch_rate = 1000 };
    memset(&w, 0, sizeof(w));
    w.now = 5 * TW_SEC;
    assert_ok(tw_desk_new(&cfg, &env, &w.desk));
    tw_desk_clock(w.desk, w.now, NOON);
}

static void close_desk(void)
{
    tw_desk_free(w.desk);
    for (size_t i = 0; i < USERS; i++)
        tw_rdv_free(w.user[i].rdv);
}

static void take(struct user *u)
{
    struct tw_rdv_event ev;
    while (tw_rdv_poll_event(u->rdv, &ev)) {
        if (ev.type == TW_RDV_HELLO) {
            u->hello = true;
            u->servers = (unsigned)ev.hello->server_n;
            if (u->servers > 1)
                snprintf(u->username, sizeof(u->username), "%.*s", (int)ev.hello->server[1].username.n,
                         (const char *)ev.hello->server[1].username.p);
        }
        u->registered += ev.type == TW_RDV_REGISTERED;
        u->replaced += ev.type == TW_RDV_REPLACED;
        u->denied += ev.type == TW_RDV_DENIED;
        u->calls += ev.type == TW_RDV_CALL;
        u->signals += ev.type == TW_RDV_SIGNAL;
        u->datagrams += ev.type == TW_RDV_DATAGRAM;
        u->gone += ev.type == TW_RDV_GONE;
        u->drained += ev.type == TW_RDV_DRAIN;
        u->closed = u->closed || ev.type == TW_RDV_CLOSED;
        if (ev.type == TW_RDV_CALL)
            u->call = ev.call;
        if (ev.type == TW_RDV_GONE)
            u->reason = ev.reason;
        if (ev.type == TW_RDV_CALL || ev.type == TW_RDV_SIGNAL || ev.type == TW_RDV_DATAGRAM)
            snprintf(u->body, sizeof(u->body), "%.*s", (int)(ev.body.n < 60 ? ev.body.n : 60),
                     (const char *)ev.body.p);
    }
}

static void carry(void)
{
    uint32_t conn;
    struct tw_bytes b;
    for (bool some = true, close; some;) {
        some = false;
        for (uint32_t i = 0; i < USERS; i++) {
            struct user *u = &w.user[i];
            if (!u->rdv)
                continue;
            b = tw_rdv_out(u->rdv);
            some = some || b.n;
            if (b.n)
                tw_desk_recv(w.desk, w.now, i, b);
        }
        while (tw_desk_poll_tx(w.desk, &conn, &b, &close)) {
            some = true;
            if (w.user[conn].rdv)
                tw_rdv_recv(w.user[conn].rdv, w.now, b);
            if (close)
                tw_desk_disconnected(w.desk, w.now, conn);
        }
        for (uint32_t i = 0; i < USERS; i++)
            if (w.user[i].rdv)
                take(&w.user[i]);
    }
}

static struct user *join_as(uint32_t i, uint8_t key, bool listen, const char *token, uint64_t program, uint32_t number)
{
    struct user *u = &w.user[i];
    uint8_t seed[TW_SEED_SIZE] = { key };
    struct tw_addr from = ip("192.0.2.1");
    struct tw_rdv_config cfg = { .self = &u->id, .listen = listen, .token = token, .program = program, .number = number };
    from.ip[3] = (uint8_t)(i / 4);
    from.port = (uint16_t)(1000 + i);
    assert_ok(tw_rdv_addr_parse("desk.example", &cfg.server, NULL));
    assert_ok(tw_ident_init(&u->id, seed));
    assert_ok(tw_desk_connected(w.desk, w.now, i, &from));
    assert_ok(tw_rdv_new(&cfg, &env, w.now, &u->rdv));
    carry();
    return u;
}

static struct user *join(uint32_t i, uint8_t key, bool listen, const char *token)
{
    return join_as(i, key, listen, token, 0, 0);
}

static void advance(tw_time by)
{
    tw_time until = w.now + by;
    while (w.now < until) {
        tw_time next = tw_time_min(until, tw_desk_deadline(w.desk));
        for (size_t i = 0; i < USERS; i++)
            if (w.user[i].rdv && !w.user[i].closed)
                next = tw_time_min(next, tw_rdv_deadline(w.user[i].rdv));
        w.now = next > w.now ? next : w.now + 1;
        tw_desk_tick(w.desk, w.now);
        for (size_t i = 0; i < USERS; i++)
            if (w.user[i].rdv)
                tw_rdv_tick(w.user[i].rdv, w.now);
        carry();
    }
}

static struct tw_bytes str(const char *s)
{
    return tw_bytes_str(s);
}

static void a_call_reaches_who_owns_the_key(void **state)
{
    uint32_t call;
    (void)state;
    open_desk(false);
    struct user *b = join(1, 2, true, "sesame"), *a = join(0, 1, false, NULL);
    assert_int_equal(b->registered, 1);
    assert_int_equal(a->servers, 1); /* STUN for everybody, relays for who has a token */
    assert_int_equal(b->servers, 2);
    assert_memory_equal(b->username, "1728043800:", 11); /* a time, ten minutes from now */
    assert_ok(tw_rdv_call(a->rdv, w.now, &b->id.key, NULL, str("offer"), &call));
    carry();
    assert_int_equal(b->calls, 1);
    assert_string_equal(b->body, "offer");
    assert_ok(tw_rdv_signal(b->rdv, w.now, b->call, str("answer")));
    assert_ok(tw_rdv_datagram(a->rdv, w.now, call, str("hello")));
    carry();
    assert_string_equal(a->body, "answer");
    assert_string_equal(b->body, "hello");
    tw_rdv_hangup(b->rdv, w.now, b->call, TW_RDV_REFUSED);
    carry();
    assert_int_equal(a->gone, 1);
    assert_int_equal(a->reason, TW_RDV_REFUSED);
    assert_int_equal(tw_desk_stats(w.desk)->calls, 0);
    assert_ok(tw_rdv_signal(a->rdv, w.now, call, str("late")));
    carry();
    assert_int_equal(b->signals, 0);
    struct tw_key nobody = w.user[0].id.key;
    assert_ok(tw_rdv_call(a->rdv, w.now, &nobody, NULL, str("offer"), &call));
    carry();
    assert_int_equal(a->reason, TW_RDV_NOT_HERE);
    close_desk();
}

static void a_mailbox_needs_a_token_unless_the_desk_is_open(void **state)
{
    (void)state;
    open_desk(false);
    struct user *u = join(1, 2, true, "wrong");
    assert_true(u->hello && !u->registered);
    assert_int_equal(tw_desk_stats(w.desk)->mailboxes, 0);
    close_desk();
    open_desk(true);
    assert_int_equal(join(1, 2, true, NULL)->registered, 1);
    close_desk();
}

static void the_newest_with_a_key_wins(void **state)
{
    uint32_t call;
    (void)state;
    open_desk(true);
    struct user *old = join(1, 2, true, NULL), *new = join(2, 2, true, NULL), *a = join(0, 1, false, NULL);
    assert_int_equal(old->replaced, 1);
    assert_int_equal(new->registered, 1);
    assert_ok(tw_rdv_call(a->rdv, w.now, &new->id.key, NULL, str("offer"), &call));
    carry();
    assert_int_equal(old->calls, 0);
    assert_int_equal(new->calls, 1);
    advance(300 * TW_SEC);
    assert_int_equal(old->replaced, 1); /* and does not fight back */
    assert_int_equal(new->replaced, 0);
    close_desk();
}

static void who_goes_is_gone_at_once(void **state)
{
    uint32_t call;
    (void)state;
    open_desk(true);
    struct user *b = join(1, 2, true, NULL), *a = join(0, 1, false, NULL);
    assert_ok(tw_rdv_call(a->rdv, w.now, &b->id.key, NULL, str("offer"), &call));
    carry();
    tw_desk_disconnected(w.desk, w.now, 1);
    carry();
    assert_int_equal(a->reason, TW_RDV_LOST);
    assert_ok(tw_rdv_call(a->rdv, w.now, &b->id.key, NULL, str("offer"), &call));
    carry();
    assert_int_equal(a->reason, TW_RDV_NOT_HERE);
    close_desk();
}

static void a_mailbox_lasts_over_midnight(void **state)
{
    uint32_t call;
    (void)state;
    open_desk(true);
    struct user *b = join(1, 2, true, NULL);
    for (unsigned hour = 0; hour < 60; hour++) {
        advance(3600 * TW_SEC);
        struct user *a = join(0, 1, false, NULL);
        b->calls = 0;
        assert_ok(tw_rdv_call(a->rdv, w.now, &b->id.key, NULL, str("offer"), &call));
        carry();
        if (b->calls != 1)
            fail_msg("not reached after %u hours", hour + 1);
        tw_desk_disconnected(w.desk, w.now, 0);
        tw_rdv_free(a->rdv);
        a->rdv = NULL;
    }
    assert_false(b->closed);
    close_desk();
}

static void what_one_user_may_do_is_bounded(void **state)
{
    uint32_t call = 0;
    struct tw_addr from = ip("192.0.2.0");
    static char much[1000];
    (void)state;
    open_desk(true);
    struct user *b = join(1, 2, true, NULL), *a = join(0, 1, false, NULL);
    memset(much, 'x', sizeof(much) - 1);
    for (int i = 0; i < 500; i++) {
        assert_ok(tw_rdv_call(a->rdv, w.now, &b->id.key, NULL, str("offer"), &call));
        carry();
    }
    assert_in_range(b->calls, 10, 40);
    assert_int_equal(a->reason, TW_RDV_BUSY);
    call = 1;
    for (int i = 0; i < 500; i++) {
        assert_ok(tw_rdv_datagram(a->rdv, w.now, call, str(much)));
        assert_ok(tw_rdv_signal(a->rdv, w.now, call, str(much)));
        carry();
    }
    assert_in_range(b->datagrams, 2, 5);     /* 4 s of 1000 bytes */
    assert_in_range(b->signals, 100, 135);   /* 8 s of 16 KiB */
    b->datagrams = 0;
    tw_desk_backlog(w.desk, 1, 100000);
    advance(10 * TW_SEC);
    assert_ok(tw_rdv_datagram(a->rdv, w.now, call, str(much)));
    carry();
    assert_int_equal(b->datagrams, 0);
    assert_int_equal(tw_desk_connected(w.desk, w.now, 20, &from), 0);
    assert_int_equal(tw_desk_connected(w.desk, w.now, 21, &from), 0);
    assert_int_equal(tw_desk_connected(w.desk, w.now, 22, &from), TW_EFULL); /* four of one address */
    advance(20 * TW_SEC); /* who does not speak is closed */
    assert_int_equal(tw_desk_stats(w.desk)->clients, 2);
    tw_desk_backlog(w.desk, 1, 2 << 20);
    carry();
    assert_true(b->closed);
    tw_desk_drain(w.desk, w.now);
    carry();
    assert_int_equal(a->drained, 1);
    assert_int_equal(tw_desk_connected(w.desk, w.now, 23, &from), TW_EFULL);
    close_desk();
}

/* Nothing comes from it any more, nor gets there. How long that takes to be noticed. */
static tw_time silence_is_noticed_after(struct user *u)
{
    tw_time begin = w.now;
    while (w.now < begin + 60 * TW_SEC && !u->closed) {
        tw_rdv_tick(u->rdv, w.now);
        (void)tw_rdv_out(u->rdv); /* lost */
        take(u);
        w.now = u->closed ? w.now : tw_rdv_deadline(u->rdv);
    }
    assert_true(u->closed);
    return w.now - begin;
}

static void a_silent_server_is_noticed(void **state)
{
    (void)state;
    open_desk(true);
    struct user *b = join(1, 2, true, NULL);
    assert_in_range(silence_is_noticed_after(b) / TW_SEC, 30, 40);
    close_desk();
}

/* Who has lost a peer, too, does not wait so long, and one that answers is asked no more once that is over. */
static void in_doubt_it_is_noticed_soon(void **state)
{
    (void)state;
    open_desk(true);
    struct user *b = join(1, 2, true, NULL);
    advance(7 * TW_SEC);
    tw_rdv_doubt(b->rdv, w.now);
    carry();
    advance(40 * TW_SEC);
    assert_false(b->closed);
    assert_true(tw_rdv_deadline(b->rdv) > w.now + 10 * TW_SEC);
    tw_rdv_doubt(b->rdv, w.now);
    assert_in_range(silence_is_noticed_after(b) / TW_MSEC, 2000, 2500);
    close_desk();
}

/* --- what is said in a call ------------------------------------------------------------------------ */

static struct tw_word an_offer(const struct tw_ident *from)
{
    struct tw_word o = { .kind = TW_WORD_OFFER, .caller = from->key, .unix_ms = NOON, .secret = { 1, 2, 3 },
                         .ufrag = "abcd", .pwd = "0123456789012345678901", .candidate_n = 2, .end = true,
                         .early = tw_bytes_str("first words") };
    o.candidate[0] = (struct tw_ice_candidate){ .addr = ip("192.0.2.1:4000"), .priority = 77, .component = 1,
                                                .foundation = "f1" };
    o.candidate[1] = (struct tw_ice_candidate){ .addr = ip("[2001:db8::1]:4001"), .priority = 78, .component = 1,
                                                .type = TW_ICE_RELAY, .foundation = "f2" };
    return o;
}

static void an_offer_is_for_one_and_from_one(void **state)
{
    struct tw_ident a, b, c;
    uint8_t seeds[3][TW_SEED_SIZE] = { { 1 }, { 2 }, { 3 } }, sealed[TW_OFFER_SEALED_MAX], buf[TW_OFFER_MAX];
    struct tw_word got;
    size_t n;
    (void)state;
    assert_ok(tw_ident_init(&a, seeds[0]));
    assert_ok(tw_ident_init(&b, seeds[1]));
    assert_ok(tw_ident_init(&c, seeds[2]));
    struct tw_word offer = an_offer(&a);
    assert_ok(tw_offer_seal(&offer, &a, &b.key, NULL, &env.rng, sealed, &n));
    assert_int_equal(n, 1024 + TW_SEAL_OVERHEAD);
    assert_ok(tw_offer_open(tw_bytes(sealed, n), &b, NULL, 0, buf, &got));
    assert_true(tw_key_eq(&got.caller, &a.key) && got.end && got.candidate_n == 2 && got.unix_ms == NOON);
    assert_string_equal(got.ufrag, "abcd");
    assert_addr(got.candidate[1].addr, "[2001:db8::1]:4001");
    assert_int_equal(got.candidate[1].type, TW_ICE_RELAY);
    assert_true(tw_bytes_eq(got.early, tw_bytes_str("first words")));
    assert_int_equal(tw_offer_open(tw_bytes(sealed, n), &c, NULL, 0, buf, &got), TW_EAUTH);
    /* Who opened it can't pass it on as if it were for another. */
    uint8_t plain[TW_OFFER_MAX];
    assert_ok(tw_seal_open(&b, NULL, 0, tw_bytes(sealed, n), plain));
    assert_ok(tw_seal(&c.key, NULL, &env.rng, tw_bytes(plain, n - TW_SEAL_OVERHEAD), sealed));
    assert_int_equal(tw_offer_open(tw_bytes(sealed, n), &c, NULL, 0, buf, &got), TW_EAUTH);
    /* Nor can anybody offer in another's name. */
    offer.caller = c.key;
    assert_ok(tw_offer_seal(&offer, &a, &b.key, NULL, &env.rng, sealed, &n));
    assert_int_equal(tw_offer_open(tw_bytes(sealed, n), &b, NULL, 0, buf, &got), TW_EAUTH);
    static uint8_t early[TW_OFFER_EARLY_MAX + 1];
    offer = an_offer(&a);
    offer.early = tw_bytes(early, TW_OFFER_EARLY_MAX);
    assert_ok(tw_offer_seal(&offer, &a, &b.key, NULL, &env.rng, sealed, &n));
    assert_ok(tw_offer_open(tw_bytes(sealed, n), &b, NULL, 0, buf, &got));
    assert_int_equal(got.early.n, TW_OFFER_EARLY_MAX);
    offer.early.n++;
    assert_int_equal(tw_offer_seal(&offer, &a, &b.key, NULL, &env.rng, sealed, &n), TW_EFULL);
}

static void words_are_padded_and_come_once(void **state)
{
    uint8_t secret[32] = { 5 }, sealed[2][TW_OFFER_MAX + TW_BOX_OVERHEAD], buf[TW_OFFER_MAX];
    struct tw_box to, from;
    struct tw_word more = { .kind = TW_WORD_MORE, .end = true }, got;
    size_t n[2];
    (void)state;
    tw_box_init(&to, secret, "x");
    tw_box_init(&from, secret, "x");
    assert_ok(tw_word_seal(&more, &to, sealed[0], &n[0]));
    more.candidate_n = 1;
    more.candidate[0] = (struct tw_ice_candidate){ .addr = ip("192.0.2.1:4000"), .foundation = "f" };
    assert_ok(tw_word_seal(&more, &to, sealed[1], &n[1]));
    assert_int_equal(n[0], n[1]); /* its size does not tell what is in it */
    assert_ok(tw_word_open(tw_bytes(sealed[0], n[0]), &from, buf, &got));
    assert_true(got.end && got.candidate_n == 0);
    assert_int_equal(tw_word_open(tw_bytes(sealed[0], n[0]), &from, buf, &got), TW_EAUTH);
    assert_ok(tw_word_open(tw_bytes(sealed[1], n[1]), &from, buf, &got));
    assert_int_equal(got.candidate_n, 1);
}

static void a_program_that_moves_is_no_other_one(void **state)
{
    uint32_t call;
    (void)state;
    open_desk(true);
    struct user *first = join_as(0, 1, true, NULL, 77, 2), *caller = join_as(4, 9, false, NULL, 0, 0);
    assert_ok(tw_rdv_call(caller->rdv, w.now, &first->id.key, NULL, tw_bytes("offer", 5), &call));
    carry();
    assert_int_equal(first->calls, 1);
    struct user *moved = join_as(8, 1, true, NULL, 77, 3), *late = join_as(12, 1, true, NULL, 77, 1);
    assert_true(first->registered == 1 && first->replaced == 0 && moved->registered == 1 && late->registered == 0);
    assert_true(caller->gone == 1 && caller->reason == TW_RDV_LOST); /* who calls it may find it there */
    assert_ok(tw_rdv_call(caller->rdv, w.now, &first->id.key, NULL, tw_bytes("offer", 5), &call));
    carry();
    assert_int_equal(moved->calls, 1);
    assert_int_equal(moved->replaced, 0);
    join_as(16, 1, true, NULL, 78, 1);
    assert_int_equal(moved->replaced, 1);
    close_desk();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_that_moves_is_no_other_one),
        cmocka_unit_test(a_call_reaches_who_owns_the_key),
        cmocka_unit_test(a_mailbox_needs_a_token_unless_the_desk_is_open),
        cmocka_unit_test(the_newest_with_a_key_wins),
        cmocka_unit_test(who_goes_is_gone_at_once),
        cmocka_unit_test(a_mailbox_lasts_over_midnight),
        cmocka_unit_test(what_one_user_may_do_is_bounded),
        cmocka_unit_test(a_silent_server_is_noticed),
        cmocka_unit_test(in_doubt_it_is_noticed_soon),
        cmocka_unit_test(an_offer_is_for_one_and_from_one),
        cmocka_unit_test(words_are_padded_and_come_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
