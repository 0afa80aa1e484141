# All on one address of the test's own namespace. Sourced, after enter_lab; needs lib.sh.
AT=192.0.2.1
ip addr add $AT/32 dev lo
# What is begun there, with more options behind it, and with "env" what is wanted before it.
THALWEGD=("$BUILD/thalwegd" -L $AT -u user:pass -r realm -m 1 --rendezvous-open --state-dir "$WORK/state" --allowed-peer-ip $AT)

# url_of LOG: where that server's rendezvous is, once it says so.
url_of() {
    wait_for 5 grep -q "rendezvous at" "$1" || { cat "$1"; fail "thalwegd"; }
    sed -n 's/.*rendezvous at \([^ ]*\).*/\1/p' "$1" | head -1
}
# address_of LOG: of a listener, once it is online.
address_of() {
    wait_for 10 grep -q '"online"' "$1" || { cat "$1"; fail "the listener is not online"; }
    sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$1" | head -1
}
rss() { awk '/VmRSS/ { print $2 }' "/proc/$1/status" 2>/dev/null; } # KiB
fds() { find "/proc/$1/fd" 2>/dev/null | wc -l; }
