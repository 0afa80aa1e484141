#!/bin/bash
# Each of eight networks dials each of them, from a cold start, all 40 ms apart: they meet, a file arrives there and back, and
# by the highest rung that the two networks allow.
. "$(dirname "$0")/namespaces.sh"
enter_lab "$@"
. "$(dirname "$0")/../interop/lib.sh"
. "$(dirname "$0")/labnet.sh"
. "$(dirname "$0")/proxies.sh"
have squid || exit 77
[ -x "$CERTGEN" ] || { echo "SKIP: this squid does not open TLS"; exit 77; }

NAMES=(public "home NAT" "hard NAT" "no UDP" "web only" "TLS only" "proxy only" inspected)
NATS=(- I/AP/keep AP/AP/random blocked web tls proxied proxied)

# expect FROM TO: the highest rung there is between the two. Through an inspecting proxy nobody's TLS passes but the server's, whose
# certificate it trusts. To a NAT that draws its ports by lot a hole may be found by probing (stun), which takes longer than this file.
expect() {
    a=$1 b=$2
    [ "$a" -le "$b" ] || a=$2 b=$1
    case $a$b in
    00) echo udp ;;
    01 | 02 | 11) echo stun ;;
    03 | 13 | 33) echo tcp ;;
    04) echo http ;;
    05 | 06) echo https ;;
    *) echo relay ;;
    esac
}
proxy() { # NUMBER
    [ "$1" = 6 ] && echo "--proxy http://203.0.114.3:3128"
    [ "$1" = 7 ] && echo "--proxy http://203.0.114.3:3129"
}

nodes=
for i in 0 1 2 3 4 5 6 7; do
    for side in a b; do
        if [ $i = 0 ]; then
            [ $side = a ] && at=198.51.150.1 || at=198.51.151.1
            nodes="$nodes $side$i=$at"
        else
            nodes="$nodes $side$i=192.168.$i$([ $side = a ] && echo 1 || echo 2).5@${NATS[i]}"
        fi
    done
done
# shellcheck disable=SC2086
net_up 10 $nodes $OPEN
make_cert server IP:203.0.114.1,DNS:203.0.114.1
SERVE="--cert $WORK/server.pem --pkey $WORK/server.key"
serve
inspector allow 3129
squid_up
head -c 500000 /dev/urandom >"$WORK/file"

listeners=
for i in 0 1 2 3 4 5 6 7; do
    as "a$i" "$BUILD/thalweg" id >"$WORK/key-a$i"
    as "b$i" "$BUILD/thalweg" id -s "$RENDEZVOUS" >"$WORK/address-b$i"
done
for i in 0 1 2 3 4 5 6 7; do
    # shellcheck disable=SC2046
    as "b$i" "$BUILD/thalweg" listen --echo --json --web $(sed 's/^/--allow /' "$WORK"/key-a?) -s "$RENDEZVOUS" --no-port-mapping \
        $(proxy "$i") >"$WORK/listen-b$i" 2>&1 9>&- &
    listeners="$listeners $!"
done
for i in 0 1 2 3 4 5 6 7; do
    wait_for 15 grep -q '"online"' "$WORK/listen-b$i" || { cat "$WORK/listen-b$i"; fail "the listener that is ${NAMES[i]}"; }
done

dial() { # FROM TO
    o=$WORK/dial-$1-$2
    # shellcheck disable=SC2046
    as "a$1" timeout 40 "$BUILD/thalweg" connect --json --web --no-port-mapping $(proxy "$1") "$(cat "$WORK/address-b$2")" \
        <"$WORK/file" >"$o.back" 2>"$o" 9>&-
    cmp -s "$WORK/file" "$o.back" && touch "$o.right"
    rm -f "$o.back"
}
row() { # FROM: one after the other
    for to in 0 1 2 3 4 5 6 7; do
        dial "$1" $to
    done
}
value() { # FILE EVENT NAME: the last one
    sed -n "s/.*\"event\":\"$2\".*\"$3\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$1" | tail -1
}

printf '%-12s' "from, to"
printf '%-12s' "${NAMES[@]}"
echo "  (rung, and when the first byte was back, in round trips)"
wrong=
for i in 0 2 4 6; do # two rows at a time
    row $i &
    row $((i + 1))
    wait $!
    for from in $i $((i + 1)); do
        printf '%-12s' "${NAMES[from]}"
        for to in 0 1 2 3 4 5 6 7; do
            o=$WORK/dial-$from-$to
            rung=$(value "$o" path rung)
            printf '%-12s' "${rung:-none} $(value "$o" first_byte ms | awk '{ printf "%.1f", $1 / 40 }')"
            [ -f "$o.right" ] || wrong="$wrong
${NAMES[from]} to ${NAMES[to]}: the file did not come back: $(tail -1 "$o")"
            [ "$rung" = "$(expect $from $to)" ] || [ "$rung$from$to" = stun12 ] || [ "$rung$from$to" = stun21 ] || wrong="$wrong
${NAMES[from]} to ${NAMES[to]}: by ${rung:-no way}, and not by $(expect $from $to)"
        done
        echo
    done
done
# shellcheck disable=SC2086
kill $listeners
wait $listeners 2>/dev/null
squid_down
lab_down
[ -z "$wrong" ] || { echo "$wrong"; fail "matrix"; }
echo "64 pairs of networks met, by the highest rung that each allows; all files came back right"
