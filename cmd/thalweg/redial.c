#include "redial.h"

#include <string.h>

#include "rt/os.h"

enum { FIRST_MS = 1000, MAX_MS = 60000 };

static void on_timer(uv_timer_t *t)
{
    struct redial *r = t->data;
    if (!r->peer->ending && peer_dial(r->peer, r->address, tw_bytes(NULL, 0), &r->conn))
        peer_end(r->peer, EXIT_FAILED);
}

static void on_patience(uv_timer_t *t)
{
    struct redial *r = t->data;
    tw_endpoint_hangup(r->peer->rt.endpoint, tw_rt_now(), r->conn, TW_ENDPOINT_CODE_LOST, "no way any more");
    tw_rt_endpoint_pump(&r->peer->rt);
}

int redial_start(struct redial *r, struct peer *p, const char *address)
{
    r->peer = p;
    r->address = address;
    uv_timer_t *timers[] = { &r->timer, &r->patience };
    for (int i = 0; i < 2; i++) {
        uv_timer_init(p->loop, timers[i]);
        timers[i]->data = r;
        uv_unref((uv_handle_t *)timers[i]);
    }
    return peer_dial(p, address, tw_bytes(NULL, 0), &r->conn);
}

void redial_event(struct redial *r, const struct tw_endpoint_event *ev)
{
    if (ev->conn != r->conn)
        return;
    if (ev->type == TW_EP_CONNECTED) {
        r->ever = true;
        r->wait_ms = 0;
        r->why[0] = 0;
    } else if (ev->type == TW_EP_PATH && r->patience_ms) {
        if (ev->path.rung == TW_RUNG_NONE)
            uv_timer_start(&r->patience, on_patience, r->patience_ms, 0);
        else
            uv_timer_stop(&r->patience);
    } else if (ev->type == TW_EP_CLOSED) {
        uv_timer_stop(&r->patience);
        const char *why = ev->why && *ev->why ? ev->why : "closed";
        bool final = ev->code == TW_ENDPOINT_CODE_REFUSED || !(r->ever || r->stubborn);
        if (strncmp(why, r->why, sizeof(r->why) - 1) != 0) /* one line a change */
            peer_say(r->peer, "thalweg: %s%s", why, final ? "" : "; trying again");
        snprintf(r->why, sizeof(r->why), "%s", why);
        r->wait_ms = r->wait_ms ? r->wait_ms * 2 : FIRST_MS;
        if (r->wait_ms > MAX_MS)
            r->wait_ms = MAX_MS;
        if (final)
            peer_end(r->peer, peer_status_of(ev));
        else
            uv_timer_start(&r->timer, on_timer, r->wait_ms, 0);
    }
}
