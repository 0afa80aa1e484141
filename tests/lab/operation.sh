#!/bin/bash
# Running it: users from the database, bans, time-limited names, reload and a rotated key under traffic
# with all rights given up, metrics that move, hostile names in every place a name can get to.
. "$(dirname "$0")/../interop/lib.sh"
need sqlite3 openssl curl
T="$BUILD/thalweg"
adm() { "$BUILD/thalwegadm" --db "$WORK/users.db" --realm realm "$@"; }
turn() { timeout 60 "$T" turn --no-throughput --pings 3 "$@" >"$WORK/turn" 2>&1; }
metric() { curl -s "http://127.0.0.1:$METRICS/metrics" | sed -n "s/^thalweg_$1 //p"; }

echo "pa55" | adm user add bob || fail "user add from standard input"
make_cert "$WORK/cert"
METRICS=$((10000 + $$ % 10000))
cat >"$WORK/conf" <<CONF
listening-ip=127.0.0.1
relay-ip=127.0.0.1
realm=realm
user=user:pass
userdb=$WORK/users.db
cert=$WORK/cert.pem
pkey=$WORK/cert.key
allow-loopback-peers
mobility
no-cli
simple-log
syslog
prometheus
prometheus-port=$METRICS
drain-timeout=2
CONF
rights=
[ "$(id -u)" != 0 ] || rights="--proc-user nobody"
LOG="$WORK/thalwegd.log"
sandbox=
nm "$BUILD/thalwegd" | grep -q __asan_init && sandbox=--no-sandbox
# shellcheck disable=SC2086
"$BUILD/thalwegd" -c "$WORK/conf" -l "$LOG" $rights $sandbox -m 2 >"$WORK/log" 2>&1 &
SERVER=$!
PIDS="$PIDS $SERVER"
wait_for 10 grep -q "metrics at" "$LOG" || { cat "$WORK/log" "$LOG"; fail "no start"; }
grep -q "syslog is ignored: standard error goes to the journal" "$WORK/log" || { cat "$WORK/log"; fail "an option of coturn's goes unmentioned"; }
# rights are given up last, after all that needs them has said that it is there
is_nobody() { [ "$(stat -c %U /proc/"$SERVER")" = nobody ]; }
[ -z "$rights" ] || wait_for 10 is_nobody || fail "it kept its rights"
[ -n "$sandbox" ] || wait_for 10 grep -q "^Seccomp:.*2" /proc/"$SERVER"/status || fail "no seccomp"
echo "ok: started from a turnserver.conf, rights given up"

echo | openssl s_client -connect 127.0.0.1:5349 -alpn stun.turn 2>/dev/null | grep -q "ALPN protocol: stun.turn" || fail "no ALPN"
echo | openssl s_client -connect 127.0.0.1:5349 -tls1_1 -cipher 'DEFAULT@SECLEVEL=0' 2>/dev/null | grep -q "Cipher is (NONE)" || fail "TLS 1.1 is spoken"
turn -u user -w pass 127.0.0.1 || { cat "$WORK/turn"; fail "a user of the file"; }
turn -u user -w pass --mobility 127.0.0.1 || { cat "$WORK/turn"; fail "mobility"; }
turn -u bob -w pa55 127.0.0.1 || { cat "$WORK/turn"; fail "a user of the database"; }
adm user add carol c4rol
wait_for 8 turn -u carol -w c4rol 127.0.0.1 || { cat "$WORK/turn"; fail "a user added while it runs"; }
adm ban user carol
wait_for 8 bash -c "! timeout 20 $T turn --no-throughput --pings 1 -u carol -w c4rol 127.0.0.1" || fail "a banned user gets in"
adm unban user carol
adm secret add s3cret
adm secret add s3cret2
wait_for 8 turn -u carol -w c4rol 127.0.0.1 || fail "not let in again"
{ read -r name; read -r password; } < <(adm credential dave 300)
turn -u "$name" -w "$password" 127.0.0.1 || { cat "$WORK/turn"; fail "a time-limited name"; }
{ read -r name; read -r password; } < <(adm credential dave 0)
turn -u "$name" -w "$password" 127.0.0.1 && fail "an expired name gets in"
adm user quota bob 1
wait_for 8 bash -c "timeout 20 $T turn --no-throughput --pings 1 -u bob -w pa55 127.0.0.1 2>&1 | grep -q \"(486 \"" || fail "a quota of one lets two in"
adm ban address 127.0.0.1
wait_for 8 bash -c "! timeout 12 $T turn --no-throughput --pings 1 -u user -w pass 127.0.0.1" || fail "a banned address gets in"
adm unban address 127.0.0.1
wait_for 8 turn -u user -w pass 127.0.0.1 || fail "not let in again"
echo "ok: users, secrets, quotas and bans from the database, while it runs"

before=$(metric up_packets_total)
[ "$(metric connections)" = 0 ] || fail "connections are not 0"
"$T" turn --ca "$WORK/cert.pem" -u user -w pass --no-throughput --pings 200 turns:127.0.0.1 >"$WORK/tls" 2>&1 &
first=$!
"$T" turn -u user -w pass --no-throughput --pings 200 127.0.0.1 >"$WORK/udp" 2>&1 &
second=$!
"$T" turn -u user -w pass --tcp-relay --pings 1000 --seconds 4 "turn:127.0.0.1?transport=tcp" >"$WORK/tcp" 2>&1 &
third=$!
wait_for 5 bash -c "[ \"\$(curl -s http://127.0.0.1:$METRICS/metrics | sed -n 's/^thalweg_allocations //p')\" -ge 6 ]" || fail "allocations do not show while they live"
wait_for 5 bash -c "[ \"\$(curl -s http://127.0.0.1:$METRICS/metrics | sed -n 's/^thalweg_up_packets_total //p')\" -gt $((before + 50)) ]" || fail "packets do not count while sessions live"
[ "$(metric connections)" -ge 4 ] || fail "connections do not show"
old=$(echo | openssl s_client -connect 127.0.0.1:3478 2>/dev/null | openssl x509 -noout -serial)
# A new key, readable by its owner only, in the middle of it; and a bad configuration after it.
make_cert "$WORK/new"
mv "$WORK/new.key" "$WORK/cert.key"
mv "$WORK/new.pem" "$WORK/cert.pem"
echo "user=erin:3rin" >>"$WORK/conf"
kill -HUP "$SERVER"
wait_for 5 grep -q "configuration read again" "$LOG" || { cat "$LOG"; fail "no reload"; }
[ "$old" != "$(echo | openssl s_client -connect 127.0.0.1:3478 2>/dev/null | openssl x509 -noout -serial)" ] || fail "the certificate is the old one"
turn -u erin -w 3rin 127.0.0.1 || { cat "$WORK/turn"; fail "a user added to the file"; }
echo "min-port=70000" >>"$WORK/conf"
kill -HUP "$SERVER"
wait_for 5 grep -q "was not taken" "$LOG" || fail "a bad configuration is taken"
turn -u erin -w 3rin 127.0.0.1 || fail "a bad configuration did harm"
wait $first || { cat "$WORK/tls"; fail "TLS traffic through the reload"; }
wait $second || { cat "$WORK/udp"; fail "UDP traffic through the reload"; }
wait $third || { cat "$WORK/tcp"; fail "TCP relaying through the reload"; }
grep -q "200 of 200 answered" "$WORK/tls" && grep -q "200 of 200 answered" "$WORK/udp" || { cat "$WORK/tls" "$WORK/udp"; fail "packets were lost"; }
[ "$(metric reloads_total)" = 1 ] && [ "$(metric reload_failures_total)" = 1 ] || fail "reloads are not counted"
echo "ok: reload and key rotation in the middle of traffic, nothing lost; metrics move"

# Names that would like to be something else: SQL, formats, terminals, JSON, labels, very long.
n=0
for name in "'; DROP TABLE user; --" '%s%n%s%n%x' $'a\x1b[31mred' 'a"b\c' $'line\nbreak' 'realm="x"}' \
    "$(printf 'a%.0s' $(seq 500))" '../../etc/passwd' '$(reboot)' $'\xc3\x28'; do
    n=$((n + 1))
    adm user add "$name" x 2>/dev/null
    timeout 10 "$T" turn --no-throughput --pings 1 -u "$name" -w y 127.0.0.1 >/dev/null 2>&1
    adm ban user "$name" 60 "$name" 2>/dev/null
done
adm user list >"$WORK/list" || fail "the list"
adm --json user list | python3 -c 'import json, sys
for line in sys.stdin: json.loads(line)' || fail "the list is no JSON"
LC_ALL=C grep -q $'\x1b' "$WORK/list" && fail "a name reaches the terminal raw"
turn -u user -w pass 127.0.0.1 || fail "it does not work any more after hostile names"
curl -s "http://127.0.0.1:$METRICS/metrics" | grep -qi "drop table\|reboot" && fail "a name is in the metrics"
[ "$(sqlite3 "$WORK/users.db" "SELECT count(*) FROM user WHERE name = 'bob'")" = 1 ] || fail "bob is gone"
[ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$METRICS/other")" = 404 ] || fail "not 404"
echo "ok: $n hostile names"
kill -TERM "$SERVER"
wait "$SERVER" || fail "it ended with $?"
grep -vE '^[^ ]+ (info|warning|error|debug) ' "$LOG" | grep -q . && fail "a record is not one line"
echo "ok: one record a line"

# coturn's own database.
if command -v turnadmin >/dev/null; then
    sqlite3 "$WORK/turndb" </usr/share/coturn/schema.sql 2>/dev/null
    turnadmin -a -b "$WORK/turndb" -u frank -p fr4nk -r realm >/dev/null 2>&1
    turnadmin -s 1mported -b "$WORK/turndb" -r realm >/dev/null 2>&1
    adm import "$WORK/turndb" | grep -q "^1 users" || fail "import of a turndb"
    start_server "$WORK/imported" -L 127.0.0.1 -E 127.0.0.1 -r realm --userdb "$WORK/users.db" --allow-loopback-peers
    grep -q "SHA-256 is not offered" "$WORK/imported" || fail "the start does not say what is off"
    grep -q "anonymity is not offered" "$WORK/imported" || fail "the start does not say what is off"
    turn -u frank -w fr4nk "127.0.0.1:$PORT" || { cat "$WORK/turn"; fail "an imported user"; }
    echo "ok: users imported from coturn's turndb"
fi
