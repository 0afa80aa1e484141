#!/usr/bin/env python3
"""An aioice agent whose description goes to standard output and whose peer's comes from standard input,
both as SDP attributes up to an empty line. Sends back all that comes. usage: aioice_peer.py
controlling|controlled [udp|tcp PORT IP]: with a relay there, and no other candidates.

With SERVER=IP in the environment that is a STUN server and a relay besides; with PING=1 it sends instead
of sending back, and says after which time the first answer came."""
import asyncio
import os
import sys
import time

try:
    import aioice
except ImportError:
    print("SKIP: python3-aioice is not installed; tools/bootstrap test installs it")
    sys.exit(77)


async def main():
    loop = asyncio.get_running_loop()
    relay = sys.argv[2:]
    server = {}
    if relay:
        server = dict(turn_server=(relay[2], int(relay[1])), turn_username="user",
                      turn_password="pass", turn_transport=relay[0], use_ipv4=False, use_ipv6=False)
    if at := os.environ.get("SERVER"):
        server = dict(stun_server=(at, 3478), turn_server=(at, 3478), turn_username="user",
                      turn_password="pass", use_ipv6=False)
    a = aioice.Connection(ice_controlling=sys.argv[1] == "controlling", **server)
    await a.gather_candidates()
    print(f"a=ice-ufrag:{a.local_username}\na=ice-pwd:{a.local_password}")
    for c in a.local_candidates:
        print(f"a=candidate:{c.to_sdp()}")
    print(flush=True)
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        name, _, value = line.removeprefix("a=").partition(":")
        if name == "ice-ufrag":
            a.remote_username = value
        elif name == "ice-pwd":
            a.remote_password = value
        elif name == "candidate":
            await a.add_remote_candidate(aioice.Candidate.from_sdp(value))
    await a.add_remote_candidate(None)
    began = time.monotonic()
    await a.connect()
    if "PING" in os.environ:
        await a.send(b"ping")
        await a.recv()
        print(f"first after {1000 * (time.monotonic() - began):.1f} ms", file=sys.stderr)
        await a.close()
        return
    try:
        while True:
            await a.send(await a.recv())
    except ConnectionError:
        pass


asyncio.run(asyncio.wait_for(main(), 30))
