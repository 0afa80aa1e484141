/* Two of our ICE agents back to back: what one receives the other sends. Two WebRTC peers, each with one
 * of them instead of the other peer, then have their DTLS and data channels through us.
 *
 * usage: icebridge udp|tcp [RELAY-IP PORT]; agent 0 is controlled, agent 1 controlling. Prints "N line" for
 * the description of agent N and "N ." behind it; takes the same for their peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/ice.h"
#include "rt/os.h"

static struct {
    struct tw_rt_ice ice;
    char sdp[32768];
    size_t n;
} side[2];

static uv_pipe_t in;
static char input[65536];
static size_t input_n;

static unsigned side_of(const struct tw_rt_ice *r)
{
    return r == &side[1].ice;
}

static void tell(unsigned me)
{
    char text[32768];
    size_t n;
    if (tw_ice_write_sdp(side[me].ice.ice, 0, text, sizeof(text), &n))
        abort();
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n"))
        printf("%u %s\n", me, line);
    printf("%u .\n", me);
    fflush(stdout);
}

static void on_event(struct tw_rt_ice *r, const struct tw_ice_event *ev)
{
    unsigned me = side_of(r);
    struct tw_rt_ice *other = &side[!me].ice;
    switch (ev->type) {
    case TW_ICE_GATHERED:
        tell(me);
        break;
    case TW_ICE_PATH:
        printf("%u path %s%s\n", me, ev->path.transport == TW_ICE_UDP ? "udp" : "tcp",
               ev->path.local_type == TW_ICE_RELAY || ev->path.remote_type == TW_ICE_RELAY ? " relay" : "");
        fflush(stdout);
        break;
    case TW_ICE_DATA:
        (void)!tw_ice_send(other->ice, tw_rt_now(), 0, 1, ev->data, ev->tos);
        tw_rt_ice_pump(other);
        break;
    case TW_ICE_SILENCE:
        break;
    case TW_ICE_FAILED: {
        char text[8192];
        tw_ice_explain(r->ice, text, sizeof(text));
        fprintf(stderr, "agent %u failed:\n%s", me, text);
        break;
    }
    default:
        break;
    }
}

static void take(char *line)
{
    unsigned me = line[0] == '1';
    if (strlen(line) < 2)
        return;
    if (strcmp(line + 2, ".") == 0) {
        int err = tw_ice_read_sdp(side[me].ice.ice, tw_rt_now(), side[me].sdp, NULL);
        if (err)
            fprintf(stderr, "agent %u: %s\n", me, tw_strerror(err));
        tw_rt_ice_pump(&side[me].ice);
    } else if (side[me].n + strlen(line) < sizeof(side[me].sdp)) {
        side[me].n += (size_t)sprintf(side[me].sdp + side[me].n, "%s\n", line + 2);
    }
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *buf)
{
    (void)h, (void)want;
    *buf = uv_buf_init(input + input_n, (unsigned)(sizeof(input) - input_n));
}

static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    if (n < 0) {
        uv_stop(s->loop);
        return;
    }
    input_n += (size_t)n;
    char *from = input, *end;
    while ((end = memchr(from, '\n', input_n - (size_t)(from - input)))) {
        *end = 0;
        take(from);
        from = end + 1;
    }
    input_n -= (size_t)(from - input);
    memmove(input, from, input_n);
}

int main(int argc, char **argv)
{
    struct tw_ice_server server = { .turn = true, .username = "user", .password = "pass" };
    uv_loop_t *loop = uv_default_loop();
    if (argc < 2 || (argc > 3 && tw_addr_parse(argv[2], (uint16_t)atoi(argv[3]), &server.addr)))
        return 2;
    for (unsigned i = 0; i < 2; i++) {
        bool tcp = strcmp(argv[1], "tcp") == 0;
        struct tw_rt_ice_config cfg = { .ice = { .controlling = i == 1, .tcp = tcp, .no_udp = tcp,
                                                  .no_mapping = true },
                                        .on_event = on_event };
        if (argc > 3) {
            cfg.ice.servers = &server;
            cfg.ice.server_n = 1;
            cfg.ice.policy = TW_ICE_RELAY_ONLY;
        }
        if (tw_rt_ice_init(&side[i].ice, loop, &cfg))
            return 1;
    }
    for (unsigned i = 0; i < 2; i++)
        tw_rt_ice_start(&side[i].ice);
    uv_pipe_init(loop, &in, 0);
    uv_pipe_open(&in, 0);
    uv_read_start((uv_stream_t *)&in, on_alloc, on_input);
    uv_run(loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; i < 2; i++)
        tw_rt_ice_fini(&side[i].ice);
    uv_close((uv_handle_t *)&in, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}
