"""A proxy that knows CONNECT, writes down all that passes, and with EVERY > 0 changes a byte in about so many.
usage: tamper.py IP PORT CAPTURE EVERY"""
import random, socket, sys, threading

ip, port, capture, every = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "wb", 0), int(sys.argv[4])
lock = threading.Lock()
changed = 0


def carry(a, b):
    global changed
    try:
        while data := a.recv(65536):
            with lock:
                capture.write(data)
                if every and random.random() < len(data) / every:
                    data = bytearray(data)
                    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
                    changed += 1
                    with open(sys.argv[3] + ".changed", "w") as f:
                        f.write(str(changed))
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client):
    try:
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(1)
            if not more:
                return
            head += more
        host, _, to = head.split()[1].decode().rpartition(":")
        server = socket.create_connection((host.strip("[]"), int(to)), 10)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    except (OSError, ValueError, IndexError):
        client.close()
        return
    threading.Thread(target=carry, args=(client, server), daemon=True).start()
    carry(server, client)


listener = socket.create_server((ip, port), backlog=50)
print("ready", flush=True)
while True:
    c, _ = listener.accept()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=serve, args=(c,), daemon=True).start()
