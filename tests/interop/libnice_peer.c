/* A libnice agent whose description goes to standard output and whose peer's comes from standard
 * input, both as SDP attributes up to an empty line. Sends back all that comes. usage: libnice_peer
 * controlling|controlled udp|tcp|both [RELAY-IP PORT]: with a relay, and no other candidates.
 *
 * With SERVER=IP in the environment that is a STUN server and a relay besides; with PING=1 it sends instead
 * of sending back, and says after which time the first answer came. */
#include <nice/agent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static GMainLoop *loop;
static NiceAgent *agent;
static guint stream;

static bool ping;
static gint64 began;

static void on_receive(NiceAgent *a, guint s, guint component, guint len, gchar *buf, gpointer data)
{
    (void)data;
    if (ping) {
        fprintf(stderr, "first after %.1f ms\n", (double)(g_get_monotonic_time() - began) / 1000);
        g_main_loop_quit(loop);
    } else {
        nice_agent_send(a, s, component, len, buf);
    }
}

static gboolean on_ping(gpointer data)
{
    (void)data;
    nice_agent_send(agent, stream, 1, 4, "ping");
    return TRUE;
}

static void read_peer(void)
{
    char line[1024], *ufrag = NULL, *pwd = NULL;
    GSList *candidates = NULL;
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        if (!*line)
            break;
        if (!strncmp(line, "a=ice-ufrag:", 12))
            ufrag = g_strdup(line + 12);
        else if (!strncmp(line, "a=ice-pwd:", 10))
            pwd = g_strdup(line + 10);
        NiceCandidate *c = nice_agent_parse_remote_candidate_sdp(agent, stream, line);
        if (c)
            candidates = g_slist_append(candidates, c);
    }
    if (!ufrag || !pwd || !candidates) {
        fprintf(stderr, "no description of a peer\n");
        exit(1);
    }
    began = g_get_monotonic_time();
    nice_agent_set_remote_credentials(agent, stream, ufrag, pwd);
    nice_agent_set_remote_candidates(agent, stream, 1, candidates);
    g_free(ufrag);
    g_free(pwd);
    g_slist_free_full(candidates, (GDestroyNotify)nice_candidate_free);
}

static void on_gathered(NiceAgent *a, guint s, gpointer data)
{
    gchar *ufrag, *pwd;
    (void)data;
    nice_agent_get_local_credentials(a, s, &ufrag, &pwd);
    printf("a=ice-ufrag:%s\r\na=ice-pwd:%s\r\n", ufrag, pwd);
    GSList *list = nice_agent_get_local_candidates(a, s, 1);
    for (GSList *c = list; c; c = c->next) {
        gchar *line = nice_agent_generate_local_candidate_sdp(a, c->data);
        printf("%s\r\n", line);
        g_free(line);
    }
    printf("\r\n");
    fflush(stdout);
    g_slist_free_full(list, (GDestroyNotify)nice_candidate_free);
    g_free(ufrag);
    g_free(pwd);
    read_peer();
}

static void on_state(NiceAgent *a, guint s, guint component, guint state, gpointer data)
{
    (void)a, (void)s, (void)component, (void)data;
    fprintf(stderr, "libnice: %s\n", nice_component_state_to_string(state));
    if (state == NICE_COMPONENT_STATE_FAILED)
        g_main_loop_quit(loop);
    if (state == NICE_COMPONENT_STATE_CONNECTED && ping) {
        on_ping(NULL);
        g_timeout_add(5, on_ping, NULL);
    }
}

static gboolean on_timeout(gpointer data)
{
    (void)data;
    g_main_loop_quit(loop);
    return FALSE;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    bool udp = strcmp(argv[2], "tcp") != 0, tcp = strcmp(argv[2], "udp") != 0;
    loop = g_main_loop_new(NULL, FALSE);
    agent = nice_agent_new(NULL, NICE_COMPATIBILITY_RFC5245);
    g_object_set(agent, "controlling-mode", !strcmp(argv[1], "controlling"), "upnp", FALSE, "ice-udp",
                 udp, "ice-tcp", tcp, "force-relay", argc > 3, NULL);
    stream = nice_agent_add_stream(agent, 1);
    nice_agent_set_stream_name(agent, stream, "application");
    if (argc > 4)
        nice_agent_set_relay_info(agent, stream, 1, argv[3], (guint)atoi(argv[4]), "user", "pass",
                                  NICE_RELAY_TYPE_TURN_UDP);
    const char *server = getenv("SERVER");
    ping = getenv("PING") != NULL;
    if (server) {
        g_object_set(agent, "stun-server", server, "stun-server-port", 3478, NULL);
        nice_agent_set_relay_info(agent, stream, 1, server, 3478, "user", "pass",
                                  NICE_RELAY_TYPE_TURN_UDP);
    }
    g_signal_connect(agent, "candidate-gathering-done", G_CALLBACK(on_gathered), NULL);
    g_signal_connect(agent, "component-state-changed", G_CALLBACK(on_state), NULL);
    nice_agent_attach_recv(agent, stream, 1, g_main_loop_get_context(loop), on_receive, NULL);
    nice_agent_gather_candidates(agent, stream);
    g_timeout_add_seconds(30, on_timeout, NULL);
    g_main_loop_run(loop);
    g_object_unref(agent);
    g_main_loop_unref(loop);
    return 0;
}
