#!/bin/bash
# aioice against thalwegd.
. "$(dirname "$0")/lib.sh"
start_thalwegd -m 2
# Debian's python3, which has the package; another one first in PATH may not.
PORT=$PORT /usr/bin/python3 "$(dirname "$0")/aioice_relay.py"
