#include "proxy_node.h"

#include <assert.h>
#include <stdio.h>

enum { PORT = 3128 };

static int find(const struct proxy_node *n, uint32_t id)
{
    for (int i = 0; i < PROXY_CONNS && id; i++)
        if (n->conns[i].in == id || n->conns[i].out == id)
            return i;
    return -1;
}

static uint32_t on_accepted(void *ctx, tw_time now, uint32_t listener, const struct tw_addr *local,
                            const struct tw_addr *remote)
{
    struct proxy_node *n = ctx;
    (void)now, (void)listener, (void)local, (void)remote;
    for (int i = 0; i < PROXY_CONNS; i++)
        if (!n->conns[i].in) {
            memset(&n->conns[i], 0, sizeof(n->conns[i]));
            return n->conns[i].in = ++n->next;
        }
    return 0;
}

static void answer(struct proxy_node *n, int i, const char *text)
{
    sim_tcp_send(n->host, n->conns[i].in, tw_bytes_str(text));
}

static void on_connected(void *ctx, tw_time now, uint32_t id, int err, const struct tw_addr *local)
{
    struct proxy_node *n = ctx;
    int i = find(n, id);
    (void)now, (void)local;
    if (i < 0)
        return;
    n->conns[i].joined = !err;
    n->tunnels += !err;
    answer(n, i, err ? "HTTP/1.1 502 no answer\r\n\r\n" : "HTTP/1.1 200 connected\r\n\r\n");
}

static void on_request(struct proxy_node *n, int i, struct tw_bytes data)
{
    struct tw_addr to, any = { .family = TW_FAMILY_V4 };
    char text[256], *at = n->conns[i].text;
    assert(n->conns[i].n + data.n < sizeof(n->conns[i].text));
    memcpy(at + n->conns[i].n, data.p, data.n);
    n->conns[i].n += data.n;
    at[n->conns[i].n] = 0;
    if (!strstr(at, "\r\n\r\n"))
        return;
    bool ok = sscanf(at, "CONNECT %255s HTTP/1.1", text) == 1 && !tw_addr_parse(text, 0, &to) &&
              to.port && (!n->only_port || to.port == n->only_port);
    if (!ok) {
        n->refused++;
        answer(n, i, "HTTP/1.1 403 not there\r\n\r\n");
        return;
    }
    n->conns[i].out = ++n->next;
    sim_tcp_connect(n->host, n->conns[i].out, any, to);
}

static void on_data(void *ctx, tw_time now, uint32_t id, struct tw_bytes data)
{
    struct proxy_node *n = ctx;
    int i = find(n, id);
    (void)now;
    if (i < 0)
        return;
    if (n->conns[i].joined)
        sim_tcp_send(n->host, n->conns[i].in == id ? n->conns[i].out : n->conns[i].in, data);
    else if (n->conns[i].in == id && !n->conns[i].out)
        on_request(n, i, data);
}

static void on_closed(void *ctx, tw_time now, uint32_t id)
{
    struct proxy_node *n = ctx;
    int i = find(n, id);
    (void)now;
    if (i < 0)
        return;
    uint32_t other = n->conns[i].in == id ? n->conns[i].out : n->conns[i].in;
    n->conns[i].in = n->conns[i].out = 0;
    sim_tcp_close(n->host, other);
}

static const struct sim_tcp tcp = { on_accepted, on_connected, on_data, on_closed };

void proxy_node_init(struct proxy_node *n, struct sim *s, struct tw_addr ip, struct sim_link link)
{
    memset(n, 0, sizeof(*n));
    n->host = sim_host(s, ip, NULL, link);
    sim_host_attach_tcp(n->host, n, &tcp);
    ip.port = PORT;
    bool ok = sim_tcp_listen(n->host, 0, ip, NULL);
    assert(ok);
    (void)ok;
}
