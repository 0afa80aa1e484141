#!/usr/bin/env python3
"""Strangers from all of 127/8 say hello to a server: flood.py PORT COUNT dtls|allocate. Prints how many
bytes went there and came back."""
import os
import socket
import struct
import sys

PORT, COUNT, KIND = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def client_hello():
    """A DTLS 1.2 ClientHello without a cookie."""
    ciphers = bytes.fromhex("c02bc02fcca9cca8")
    extensions = bytes.fromhex("000a00080006001d00170018" "000b00020100" "000d000a000804030401050308 04".replace(" ", ""))
    body = b"\xfe\xfd" + os.urandom(32) + b"\x00" + b"\x00" + struct.pack("!H", len(ciphers)) + ciphers + \
        b"\x01\x00" + struct.pack("!H", len(extensions)) + extensions
    handshake = b"\x01" + len(body).to_bytes(3, "big") + b"\0\0" + b"\0\0\0" + len(body).to_bytes(3, "big") + body
    return b"\x16\xfe\xff" + b"\0\0" + b"\0" * 6 + struct.pack("!H", len(handshake)) + handshake


def allocate():
    return b"\x00\x03\x00\x08\x21\x12\xa4\x42" + os.urandom(12) + b"\x00\x19\x00\x04\x11\x00\x00\x00"


sent = back = 0
socks = []
for i in range(COUNT):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setblocking(False)
    # Hellos from everywhere; Allocates from one prefix, which has one budget.
    s.bind((f"127.{1 + i % 250}.{i // 250 % 250}.{1 + i % 200}" if KIND == "dtls" else f"127.9.9.{1 + i % 250}", 0))
    message = client_hello() if KIND == "dtls" else allocate()
    s.sendto(message, ("127.0.0.1", PORT))
    sent += len(message)
    socks.append(s)
    if len(socks) == 500 or i == COUNT - 1:
        import time
        time.sleep(0.05)
        for x in socks:
            try:
                while True:
                    back += len(x.recv(2000))
            except BlockingIOError:
                pass
            x.close()
        socks = []
print(f"{COUNT} strangers: {sent} bytes there, {back} back, {back / sent:.2f} times")
sys.exit(0 if back <= sent else 1)
