#!/bin/bash
# libnice against thalwegd, over UDP and TCP (it has no TLS).
. "$(dirname "$0")/lib.sh"
[ -x "$BUILD/tests/libnice_relay" ] || {
    echo "SKIP: libnice-dev was not there when this was built; tools/bootstrap test installs it"
    exit 77
}
start_thalwegd -m 2
for transport in udp tcp; do
    timeout 60 "$BUILD/tests/libnice_relay" "$PORT" $transport || exit 1
done
