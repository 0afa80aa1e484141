#!/usr/bin/env python3
"""Two aioice agents that may use only relayed candidates, on one thalwegd, exchange data."""
import asyncio
import os
import sys

try:
    import aioice
except ImportError:
    print("SKIP: python3-aioice is not installed; tools/bootstrap test installs it")
    sys.exit(77)

PORT = int(os.environ["PORT"])
TRANSPORT = sys.argv[1]  # udp, tcp or tls; for tls SSL_CERT_FILE says whom to trust
COUNT = 50


def agent(controlling):
    a = aioice.Connection(ice_controlling=controlling, turn_server=("127.0.0.1", PORT),
                          turn_username="user", turn_password="pass",
                          turn_transport="udp" if TRANSPORT == "udp" else "tcp",
                          turn_ssl=TRANSPORT == "tls", use_ipv6=False)
    return a


def relayed_only(a):
    return [c for c in a.local_candidates if c.type == "relay"]


async def main():
    a, b = agent(True), agent(False)
    await a.gather_candidates()
    await b.gather_candidates()
    for x, y in ((a, b), (b, a)):
        candidates = relayed_only(x)
        assert candidates, "no relayed candidate was gathered"
        for c in candidates:
            await y.add_remote_candidate(c)
        await y.add_remote_candidate(None)
        y.remote_username, y.remote_password = x.local_username, x.local_password
    await asyncio.gather(a.connect(), b.connect())
    for i in range(COUNT):
        await a.send(b"ping %d" % i)
        assert await asyncio.wait_for(b.recv(), 5) == b"ping %d" % i
        await b.send(b"pong %d" % i)
        assert await asyncio.wait_for(a.recv(), 5) == b"pong %d" % i
    await a.close()
    await b.close()
    print(f"ok: {TRANSPORT}: {COUNT} messages each way between relayed candidates")


asyncio.run(asyncio.wait_for(main(), 60))
