#!/bin/bash
# aioice against thalwegd over UDP, TCP and TLS.
. "$(dirname "$0")/lib.sh"
need openssl
make_cert "$WORK/cert"
start_thalwegd -m 2 --cert "$WORK/cert.pem" --pkey "$WORK/cert.key"
export PORT SSL_CERT_FILE="$WORK/cert.pem"
for transport in udp tcp tls; do
    timeout 80 /usr/bin/python3 "$(dirname "$0")/aioice_relay.py" $transport
    status=$?
    [ $status = 0 ] || exit $status
done
