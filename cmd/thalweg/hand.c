/* Tickets, which people carry where there is no rendezvous. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"
#include "rt/os.h"

struct hand {
    uv_poll_t poll;
    struct peer *peer;
    bool one;            /* what follows the line is data, not ours to read */
    size_t n;
    char line[16384];
};

void hand_tell(struct peer *p, const struct tw_endpoint_event *ev)
{
    char text[16384], until[16];
    time_t end = time(NULL) + TW_ENDPOINT_TICKET_LIFE / TW_SEC;
    struct tm tm;
    snprintf(text, sizeof(text), "%.*s", (int)ev->data.n, (const char *)ev->data.p);
    strftime(until, sizeof(until), "%H:%M", localtime_r(&end, &tm));
    bool offer = !strncmp(text, "thalweg-offer", 13);
    peer_json(p, "ticket", ",\"conn\":%u,\"kind\":%s,\"expires\":%l,\"ticket\":%s", ev->conn, offer ? "offer" : "answer",
              (uint64_t)end, text);
    if (p->o->json)
        return;
    if (offer)
        peer_say(p, "Carry this line to the other side, by mail or chat. It is good until %s, for that key only, and tells\n"
                    "nobody else anything. There: thalweg listen --by-hand ..., and paste it.\n", until);
    else
        peer_say(p, "Carry this line back to the other side, and paste it there. It waits until %s.\n", until);
    fprintf(p->events, "%s\n", text);
    fflush(p->events);
    if (offer)
        peer_say(p, "\nPaste the line that comes back:");
}

static void take(struct hand *h)
{
    struct peer *p = h->peer;
    const char *why;
    uint32_t conn;
    h->line[h->n] = 0;
    const char *text = h->line + strspn(h->line, " \t\r");
    h->n = 0;
    if (!*text)
        return;
    if (tw_endpoint_ticket(p->rt.endpoint, tw_rt_now(), text, &conn, &why)) {
        peer_json(p, "bad_ticket", ",\"why\":%s", why);
        peer_say(p, "thalweg: this ticket: %s", why);
    } else if (h->one) {
        hand_close(p);
    }
    tw_rt_endpoint_pump(&p->rt);
}

/* One at a time: behind the line may stand data. */
static void on_input(uv_poll_t *handle, int status, int events)
{
    struct hand *h = handle->data;
    struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
    (void)status, (void)events;
    do {
        char c;
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n == 0) {
            if (h->one)
                peer_say(h->peer, "thalweg: the input ended without a ticket");
            struct peer *p = h->peer;
            bool over = h->one;
            hand_close(p);
            if (over)
                peer_end(p, EXIT_FAILED);
            return;
        }
        if (n < 0)
            return;
        if (c == '\n')
            take(h);
        else if (h->n + 1 < sizeof(h->line))
            h->line[h->n++] = c;
    } while (h->peer->hand == h && poll(&fd, 1, 0) > 0);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void hand_open(struct peer *p, bool one)
{
    struct hand *h = calloc(1, sizeof(*h));
    if (!h)
        return;
    h->peer = p;
    h->one = one;
    h->poll.data = h;
    if (uv_poll_init(p->loop, &h->poll, STDIN_FILENO)) {
        free(h);
        fprintf(stderr, "thalweg: --by-hand: standard input must be a terminal or a pipe\n");
        peer_end(p, EXIT_USAGE);
        return;
    }
    p->hand = h;
    uv_poll_start(&h->poll, UV_READABLE, on_input);
}

void hand_close(struct peer *p)
{
    if (p->hand)
        uv_close((uv_handle_t *)&p->hand->poll, on_closed);
    p->hand = NULL;
}
