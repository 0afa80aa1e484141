/* coturn's options (4.6 to 4.18) that are not ours, so that an operator's turnserver.conf works and
 * says what is different. */
#include <string.h>

#include "options.h"

enum { FLAG = 0, VALUE = 1 };
enum { NOTE = 0, STOP = 1 };

static const struct coturn_option table[] = {
    /* What they let through or keep out we could not. */
    { "secure-stun", 0, FLAG, STOP, "Binding requests are answered to everybody here" },
    { "no-stun", 0, FLAG, STOP, "Binding requests are always answered here" },
    { "oauth", 0, FLAG, STOP, "third-party authorization (RFC 7635) is not supported" },
    { "check-origin-consistency", 0, FLAG, STOP, "ORIGIN is not looked at" },
    { "psql-userdb", 'e', VALUE, STOP, "users are read from SQLite (--userdb)" },
    { "sql-userdb", 0, VALUE, STOP, "users are read from SQLite (--userdb)" },
    { "mysql-userdb", 'M', VALUE, STOP, "users are read from SQLite (--userdb)" },
    { "mongo-userdb", 'J', VALUE, STOP, "users are read from SQLite (--userdb)" },
    { "redis-userdb", 'N', VALUE, STOP, "users are read from SQLite (--userdb)" },
    { "secret-key-file", 0, VALUE, STOP, "encrypted passwords in a database are not supported" },
    { "listening-device", 'd', VALUE, STOP, "listen on its address with --listening-ip" },
    { "relay-device", 'i', VALUE, STOP, "relay on its address with --relay-ip" },
    { "dh-file", 0, VALUE, STOP, "only elliptic curves are used" },
    /* What we do without, or otherwise. */
    { "aux-server", 0, VALUE, NOTE, "this address is not listened on; use --listening-ip" },
    { "tcp-proxy-port", 0, VALUE, NOTE, "the PROXY protocol is not supported" },
    { "tls-alternate-server", 0, VALUE, NOTE, "everybody is sent to --alternate-server" },
    { "acme-redirect", 0, VALUE, NOTE, "HTTP is not answered" },
    { "respond-http-unsupported", 0, FLAG, NOTE, "HTTP is not answered" },
    { "server-name", 0, VALUE, NOTE, "it is used for OAuth only" },
    { "server-relay", 0, FLAG, NOTE, "permissions are always asked for" },
    { "no-auth-pings", 0, FLAG, NOTE, "there is no connection to check" },
    { "no-dynamic-ip-list", 0, FLAG, NOTE, "ranges come from the options and the database" },
    { "no-dynamic-realms", 0, FLAG, NOTE, "there is one realm" },
    { "max-allocate-timeout", 0, VALUE, NOTE, "a port is opened at once or never" },
    { "keep-address-family", 'K', FLAG, NOTE, "without an attribute the relayed address is IPv4" },
    { "allocation-default-address-family", 'A', VALUE, NOTE,
      "without an attribute the relayed address is IPv4" },
    { "redis-statsdb", 'O', VALUE, NOTE, "use --prometheus" },
    { "prometheus-username-labels", 0, FLAG, NOTE, "labels are bounded; users are not among them" },
    { "prometheus-path", 0, VALUE, NOTE, "the path is /metrics" },
    { "cli", 0, FLAG, NOTE, "there is no console; see thalwegadm(8)" },
    { "no-cli", 0, FLAG, NOTE, NULL },
    { "cli-ip", 0, VALUE, NOTE, "there is no console; see thalwegadm(8)" },
    { "cli-port", 0, VALUE, NOTE, "there is no console; see thalwegadm(8)" },
    { "cli-password", 0, VALUE, NOTE, "there is no console; see thalwegadm(8)" },
    { "cli-max-output-sessions", 0, VALUE, NOTE, "there is no console; see thalwegadm(8)" },
    { "web-admin", 0, FLAG, NOTE, "there is no web interface; see thalwegadm(8)" },
    { "web-admin-ip", 0, VALUE, NOTE, "there is no web interface; see thalwegadm(8)" },
    { "web-admin-port", 0, VALUE, NOTE, "there is no web interface; see thalwegadm(8)" },
    { "web-admin-listen-on-workers", 0, FLAG, NOTE, "there is no web interface" },
    { "daemon", 'o', FLAG, NOTE, "it stays in the foreground; systemd or \"&\" do the rest" },
    { "syslog", 0, FLAG, NOTE, "standard error goes to the journal under systemd" },
    { "syslog-facility", 0, VALUE, NOTE, "standard error goes to the journal under systemd" },
    { "simple-log", 0, FLAG, NOTE, NULL },
    { "no-stdout-log", 0, FLAG, NOTE, NULL },
    { "new-log-timestamp", 0, FLAG, NOTE, NULL },
    { "new-log-timestamp-format", 0, VALUE, NOTE, "time stamps are RFC 3339" },
    { "log-binding", 0, FLAG, NOTE, "Binding requests are counted (--prometheus), not logged" },
    { "log-min-level", 0, VALUE, NOTE, "use --verbose for more" },
    { "ec-curve-name", 0, VALUE, NOTE, "use --cipher-list" },
    { "dh566", 0, FLAG, NOTE, "only elliptic curves are used" },
    { "dh1066", 0, FLAG, NOTE, "only elliptic curves are used" },
    { "tlsv1", 0, FLAG, NOTE, "TLS 1.2 and 1.3 are spoken" },
    { "no-tlsv1", 0, FLAG, NOTE, NULL },
    { "no-tlsv1_1", 0, FLAG, NOTE, NULL },
    { "no-tlsv1_2", 0, FLAG, STOP, "name the versions with --cipher-list" },
    { "dtls", 0, FLAG, NOTE, NULL },
    { "raw-public-keys", 0, FLAG, NOTE, "certificates only" },
    { "fingerprint", 'f', FLAG, NOTE, "FINGERPRINT is added where the client used it" },
    { "no-multicast-peers", 0, FLAG, NOTE, NULL },
    { "rfc5780", 0, FLAG, NOTE, NULL },
    { "rfc3489-compatibility", 0, FLAG, NOTE, "RFC 3489 clients are not answered" },
    { "stun-backward-compatibility", 0, FLAG, NOTE, "RFC 3489 clients are not answered" },
    { "no-stun-backward-compatibility", 0, FLAG, NOTE, NULL },
    { "response-origin-only-with-rfc5780", 0, FLAG, NOTE, NULL },
    { "software-attribute", 0, FLAG, NOTE, NULL },
    { "include-reason-string", 0, FLAG, NOTE, "who is not authenticated gets no reason" },
    { "stateless-nonce", 0, FLAG, NOTE, NULL },
    { "stateless-nonce-secret", 0, VALUE, NOTE, "nonces are good at this server only" },
    { "unauthorized-ratelimit", 0, FLAG, NOTE, NULL },
    { "drop-invalid-packets", 0, FLAG, NOTE, NULL },
    { "drop-invalid-packets-log", 0, FLAG, NOTE, "they are counted (--prometheus), not logged" },
    { "drain-min-allocations", 0, VALUE, NOTE, "draining ends when there are none, or in time" },
    { "multiplex-peer", 0, FLAG, NOTE, "every allocation has a port of its own" },
    { "multiplex-peer-port", 0, VALUE, NOTE, "every allocation has a port of its own" },
    { "udp-self-balance", 0, FLAG, NOTE, "workers share listeners by SO_REUSEPORT" },
    { "udp-recvmmsg", 0, FLAG, NOTE, NULL },
    { "udp-recvmmsg-log", 0, FLAG, NOTE, NULL },
    { "udp-gso", 0, FLAG, NOTE, NULL },
    { "sock-buf-size", 0, VALUE, NOTE, "sockets ask for 4 MiB; the system's limit counts" },
    { "cpus", 0, VALUE, NOTE, "use --relay-threads" },
    { "ne", 0, VALUE, NOTE, "use --relay-threads" },
};

const struct coturn_option *coturn_option(const char *name, size_t n, char letter)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (letter ? table[i].letter == letter
                   : strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0)
            return &table[i];
    return NULL;
}
