#!/bin/bash
# libnice against thalwegd.
. "$(dirname "$0")/lib.sh"
[ -x "$BUILD/tests/libnice_relay" ] || {
    echo "SKIP: libnice-dev was not there when this was built; tools/bootstrap test installs it"
    exit 77
}
start_thalwegd -m 2
timeout 60 "$BUILD/tests/libnice_relay" "$PORT"
