/* Two libnice agents that are forced to relayed candidates, on one thalwegd, exchange data.
 * usage: libnice_relay PORT */
#include <nice/agent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 50, TIMEOUT_S = 30 };

static GMainLoop *loop;
static NiceAgent *agents[2];
static guint streams[2];
static int gathered, ready, received[2], failed;

static int index_of(NiceAgent *a)
{
    return a == agents[1];
}

static void on_receive(NiceAgent *a, guint stream, guint component, guint len, gchar *buf,
                       gpointer data)
{
    (void)data;
    int me = index_of(a);
    char expected[32];
    snprintf(expected, sizeof(expected), "message %d", received[me]);
    if (len != strlen(expected) || memcmp(buf, expected, len) != 0) {
        fprintf(stderr, "agent %d got \"%.*s\" instead of \"%s\"\n", me, (int)len, buf, expected);
        failed = 1;
        g_main_loop_quit(loop);
        return;
    }
    received[me]++;
    if (me == 1) { /* the second answers with the same */
        nice_agent_send(a, stream, component, len, buf);
    } else if (received[0] == COUNT) {
        g_main_loop_quit(loop);
    } else {
        snprintf(expected, sizeof(expected), "message %d", received[0]);
        nice_agent_send(a, stream, component, (guint)strlen(expected), expected);
    }
}

static void exchange(void)
{
    for (int i = 0; i < 2; i++) {
        gchar *user, *password;
        GSList *candidates = nice_agent_get_local_candidates(agents[i], streams[i], 1);
        for (GSList *c = candidates; c; c = c->next)
            if (((NiceCandidate *)c->data)->type != NICE_CANDIDATE_TYPE_RELAYED)
                failed = 1;
        if (!candidates || failed) {
            fprintf(stderr, "agent %d: no relayed candidate, or others too\n", i);
            failed = 1;
            g_main_loop_quit(loop);
            return;
        }
        nice_agent_get_local_credentials(agents[i], streams[i], &user, &password);
        nice_agent_set_remote_credentials(agents[!i], streams[!i], user, password);
        nice_agent_set_remote_candidates(agents[!i], streams[!i], 1, candidates);
        g_slist_free_full(candidates, (GDestroyNotify)nice_candidate_free);
        g_free(user);
        g_free(password);
    }
}

static void on_gathered(NiceAgent *a, guint stream, gpointer data)
{
    (void)a;
    (void)stream;
    (void)data;
    if (++gathered == 2)
        exchange();
}

static void on_state(NiceAgent *a, guint stream, guint component, guint state, gpointer data)
{
    (void)data;
    if (state == NICE_COMPONENT_STATE_FAILED) {
        fprintf(stderr, "agent %d failed to connect\n", index_of(a));
        failed = 1;
        g_main_loop_quit(loop);
    }
    if (state == NICE_COMPONENT_STATE_READY && ++ready == 2)
        nice_agent_send(agents[0], streams[0], component, 9, "message 0");
    (void)stream;
}

static gboolean on_timeout(gpointer data)
{
    (void)data;
    fprintf(stderr, "timed out: gathered %d, ready %d, received %d and %d\n", gathered, ready,
            received[0], received[1]);
    failed = 1;
    g_main_loop_quit(loop);
    return FALSE;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    bool tcp = strcmp(argv[2], "tcp") == 0;
    loop = g_main_loop_new(NULL, FALSE);
    for (int i = 0; i < 2; i++) {
        agents[i] = nice_agent_new(NULL, NICE_COMPATIBILITY_RFC5245);
        g_object_set(agents[i], "controlling-mode", i == 0, "force-relay", TRUE, "upnp", FALSE,
                     "ice-tcp", FALSE, NULL);
        NiceAddress local;
        nice_address_init(&local);
        nice_address_set_from_string(&local, "127.0.0.1");
        nice_agent_add_local_address(agents[i], &local);
        streams[i] = nice_agent_add_stream(agents[i], 1);
        nice_agent_set_relay_info(agents[i], streams[i], 1, "127.0.0.1", (guint)atoi(argv[1]), "user",
                                  "pass", tcp ? NICE_RELAY_TYPE_TURN_TCP : NICE_RELAY_TYPE_TURN_UDP);
        g_signal_connect(agents[i], "candidate-gathering-done", G_CALLBACK(on_gathered), NULL);
        g_signal_connect(agents[i], "component-state-changed", G_CALLBACK(on_state), NULL);
        nice_agent_attach_recv(agents[i], streams[i], 1, g_main_loop_get_context(loop), on_receive,
                               NULL);
    }
    for (int i = 0; i < 2; i++)
        nice_agent_gather_candidates(agents[i], streams[i]);
    g_timeout_add_seconds(TIMEOUT_S, on_timeout, NULL);
    g_main_loop_run(loop);
    for (int i = 0; i < 2; i++)
        g_object_unref(agents[i]);
    g_main_loop_unref(loop);
    if (!failed)
        printf("ok: %s: %d messages there and back between relayed candidates\n", argv[2], COUNT);
    return failed;
}
