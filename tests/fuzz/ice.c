/* The ICE agent under sequences of descriptions, checks, answers, verbs and time; a list of steps as in
 * relay.c. What a peer would sign can be signed here: the passwords are known. */
#include "fuzz.h"

#include <thalweg/error.h>
#include <thalweg/ice.h>
#include <thalweg/stun.h>

static struct tw_ice *ice;
static tw_time now;
static uint8_t tid[TW_STUN_TID];
static char ufrag[32], pwd[64]; /* the agent's */
static const char peer_pwd[] = "0123456789012345678901";

static void own_credentials(void)
{
    char sdp[16384];
    size_t n;
    if (tw_ice_write_sdp(ice, 0, sdp, sizeof(sdp), &n))
        return;
    const char *u = strstr(sdp, "a=ice-ufrag:"), *p = strstr(sdp, "a=ice-pwd:");
    if (!u || !p)
        abort();
    size_t un = strcspn(u + 12, "\r"), pn = strcspn(p + 10, "\r");
    if (un >= sizeof(ufrag) || pn >= sizeof(pwd))
        abort();
    memcpy(ufrag, u + 12, un);
    ufrag[un] = 0;
    memcpy(pwd, p + 10, pn);
    pwd[pn] = 0;
}

static struct tw_addr local(uint32_t sock)
{
    return tw_addr_v4(10, 0, 0, 1, (uint16_t)(1000 + sock % 50000));
}

static void drain(void)
{
    struct tw_datagram d;
    struct tw_ice_event ev;
    for (int i = 0; i < 20000; i++) {
        if (tw_ice_poll_tx(ice, &d)) {
            fuzz_touch(&d);
            if (d.iov[0].n >= TW_STUN_HEADER && d.iov[0].p[0] < 0x40)
                memcpy(tid, d.iov[0].p + 8, sizeof(tid));
        } else if (!tw_ice_poll_event(ice, &ev)) {
            return;
        } else if (ev.type == TW_ICE_OPEN) {
            struct tw_addr at = local(ev.sock);
            tw_ice_opened(ice, now, ev.sock, ev.sock % 7 == 6 ? TW_ESYS : 0, &at);
        } else if (ev.type == TW_ICE_CANDIDATE) {
            char line[TW_ICE_LINE_MAX];
            struct tw_ice_candidate back;
            if (tw_ice_write_candidate(&ev.candidate, line, sizeof(line)) ||
                tw_ice_read_candidate(line, &back))
                abort();
        } else if (ev.type == TW_ICE_DATA && ev.data.n) {
            volatile uint8_t last = ev.data.p[ev.data.n - 1];
            (void)last;
        }
    }
    abort(); /* it never has enough */
}

static void receive(struct tw_bytes b, uint8_t parameter, bool run)
{
    struct tw_datagram in = { .sock = 1 + parameter % 8u,
                              .src = tw_addr_v4(203, 0, 114, parameter / 64,
                                                b.n == 60 || b.n == 12 ? 5351 : 3478),
                              .dst = local(1 + parameter % 8u), .iov = &b, .iov_n = 1,
                              .segment = run && b.n > 24 ? 24 : 0 };
    (void)!tw_ice_recv(ice, now, &in);
}

/* A check or an answer whose attributes are the fuzzer's and whose signature is right. */
static void receive_signed(struct tw_bytes b, uint8_t parameter, bool answer)
{
    uint8_t buf[2048];
    char name[128];
    struct tw_stun_enc e;
    static const uint8_t request_tid[TW_STUN_TID] = { 9 };
    if (b.n > 1000)
        return;
    tw_stun_begin(&e, buf, sizeof(buf), answer ? TW_STUN_SUCCESS : TW_STUN_REQUEST, TW_STUN_BINDING,
                  answer ? tid : request_tid);
    if (!answer) {
        memcpy(name, ufrag, strlen(ufrag) + 1);
        memcpy(name + strlen(ufrag), ":peer", 6);
        tw_stun_add(&e, TW_STUN_A_USERNAME, tw_bytes_str(name));
        tw_stun_add_u32(&e, TW_STUN_A_PRIORITY, parameter + 1u);
    } else {
        struct tw_addr mapped = tw_addr_v4(198, 51, 100, 1, (uint16_t)(parameter * 3 + 1));
        tw_stun_add_addr(&e, TW_STUN_A_XOR_MAPPED_ADDRESS, &mapped);
    }
    /* Type and value by the fuzzer, length and padding right. */
    struct tw_rd r = tw_rd(b);
    while (r.n >= 3 && !r.error) {
        uint16_t type = tw_rd_u16(&r);
        size_t n = tw_rd_u8(&r) % 64u;
        struct tw_bytes v = tw_rd_bytes(&r, n < r.n ? n : r.n);
        tw_wr_u16(&e.w, type);
        tw_wr_u16(&e.w, (uint16_t)v.n);
        tw_wr_bytes(&e.w, v);
        tw_wr_zero(&e.w, -v.n & 3);
    }
    tw_stun_add_integrity(&e, answer ? tw_bytes_str(peer_pwd) : tw_bytes_str(pwd));
    tw_stun_add_fingerprint(&e);
    if (tw_stun_end(&e))
        return;
    uint8_t *exact = fuzz_exact(tw_bytes(e.w.p, e.w.n));
    receive(tw_bytes(exact, e.w.n), parameter, false);
    free(exact);
}

static void read_text(struct tw_bytes b, bool remote)
{
    char *text = malloc(b.n + 1);
    const char *why;
    struct tw_ice_remote r = { .ufrag = "peer", .pwd = peer_pwd, .own = true, .renomination = true };
    if (!text)
        abort();
    if (b.n)
        memcpy(text, b.p, b.n);
    text[b.n] = 0;
    if (remote)
        (void)!tw_ice_set_remote(ice, now, 0, &r);
    (void)!tw_ice_read_sdp(ice, now, text, &why);
    if (why < text || why > text + b.n)
        abort();
    free(text);
}

static void change_interfaces(uint8_t parameter)
{
    struct tw_ice_interface list[3] = { { .name = "eth0" }, { .name = "docker0" }, { .name = "wlan0" } };
    list[0].gateway = tw_addr_v4(203, 0, 114, 1, 0); /* so that what comes from there may be its answer */
    for (unsigned i = 0; i < 3; i++)
        list[i].ip = tw_addr_v4(10, 0, (uint8_t)(parameter >> i & 1), (uint8_t)(i + 1), 0);
    (void)!tw_ice_interfaces(ice, now, list, parameter % 4u);
}

static void add_server(uint8_t parameter)
{
    const struct tw_ice_server s = { .addr = tw_addr_v4(203, 0, 114, parameter, 3478), .turn = parameter & 1,
                                     .transport = (enum tw_transport)(parameter / 2 % 5u), .username = "u", .password = "p" };
    (void)!tw_ice_add_servers(ice, now, &s, 1);
}

/* A port mapping, or a NAT64, that is there or gone, or another server. */
static void tell_network(uint8_t parameter)
{
    struct tw_addr outside = tw_addr_v4(198, 51, 100, 2, parameter), prefix = { .family = TW_FAMILY_V6 };
    struct tw_range range;
    prefix.ip[0] = parameter;
    if ((parameter & 0xc0) == 0xc0)
        add_server(parameter);
    else if (parameter & 1)
        tw_ice_mapped(ice, now, 1 + parameter % 8u, &outside);
    else if (!tw_nat64_prefix(&prefix, 96, &range))
        tw_ice_nat64(ice, now, parameter & 2 ? &range : NULL);
}

static void step(uint8_t kind, uint8_t parameter, struct tw_bytes payload)
{
    uint8_t *exact = fuzz_exact(payload);
    struct tw_bytes b = tw_bytes(exact, payload.n);
    char text[4096];
    switch (kind & 7) {
    case 0:
        if (b.n >= TW_STUN_HEADER && kind & 0x10)
            memcpy(exact + 8, tid, sizeof(tid));
        receive(b, parameter, kind & 0x80);
        break;
    case 1:
        receive_signed(b, parameter, false);
        break;
    case 2:
        receive_signed(b, parameter, true);
        break;
    case 3:
        read_text(b, kind & 0x80);
        break;
    case 4:
        now = tw_time_add(now, (tw_time)parameter * parameter * 10 * TW_MSEC);
        tw_ice_tick(ice, now);
        break;
    case 5:
        (void)!tw_ice_send(ice, now, 0, 1, b, kind);
        break;
    case 6:
        if (kind & 0x80)
            change_interfaces(parameter);
        else if (kind & 0x40)
            (void)!tw_ice_restart(ice, now);
        else if (kind & 0x20)
            tw_ice_feedback(ice, now, 0, 1, parameter & 15u, parameter);
        else if (kind & 0x10)
            tw_ice_vouch(ice, now, &(struct tw_addr){ .family = TW_FAMILY_V4 });
        else if (kind & 0x08)
            tell_network(parameter);
        own_credentials();
        break;
    case 7:
        if (kind & 0x80 && kind & 0x40)
            tw_ice_close(ice, now);
        else if (kind & 0x20) {
            struct tw_addr from = tw_addr_v4(203, 0, 114, 1, parameter);
            uint32_t sock;
            tw_ice_accepted(ice, now, 1 + parameter % 8u, &from, (enum tw_ice_via)(parameter % 3), &sock);
        } else
            tw_ice_disconnected(ice, now, 1 + parameter % 16u);
        break;
    }
    drain();
    tw_ice_explain(ice, text, sizeof(text));
    for (int i = 0; tw_ice_deadline(ice) <= now; i++) {
        if (i == 1000)
            abort(); /* it would spin */
        tw_ice_tick(ice, now);
        drain();
    }
    free(exact);
}

static void touch_line(void *ctx, const char *line)
{
    volatile size_t n = strlen(line);
    (void)ctx, (void)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint32_t seed = 1;
    struct tw_env env = { .rng = { fuzz_fill, &seed } };
    struct tw_ice_server servers[2] = { { .addr = tw_addr_v4(203, 0, 114, 1, 3478) },
                                        { .addr = tw_addr_v4(203, 0, 114, 2, 3478), .turn = true,
                                          .username = "u", .password = "p" } };
    struct tw_ice_config cfg = { .controlling = n && p[0] & 1, .lite = n && p[0] & 2,
                                 .tcp = n && p[0] & 4, .own_peer = n && p[0] & 8,
                                 .policy = n && p[0] & 16 ? TW_ICE_RELAY_ONLY : TW_ICE_ALL,
                                 .components = n && p[0] & 32 ? 2 : 1, .servers = servers,
                                 .server_n = 2 };
    if (n && p[0] & 64)
        cfg.tape = (struct tw_ice_tape){ .write = touch_line, .addresses = p[0] & 128 };
    struct tw_rd r = tw_rd(tw_bytes(p, n));
    now = 1000 * TW_SEC;
    if (tw_ice_new(&cfg, &env, &ice))
        abort();
    change_interfaces(1);
    own_credentials();
    drain();
    tw_rd_u8(&r);
    while (r.n && !r.error) {
        uint8_t kind = tw_rd_u8(&r), parameter = tw_rd_u8(&r);
        size_t len = tw_rd_u16(&r);
        step(kind, parameter, tw_rd_bytes(&r, len < r.n ? len : r.n));
    }
    tw_ice_free(ice);
    return 0;
}
