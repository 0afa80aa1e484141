"""A call-like flow through a program that gives back what it gets: 50 numbers a second to its standard input, and what comes back
looked at: in order, none missing, none twice. While it runs, lines on standard input name moments: "mark NAME" begins one, and
"back" says that what was away is there again (the pause counts from then on).
FLOW_SIZE: bytes of each, a multiple of 8; 160. FLOW_PATIENCE: seconds to wait for the last of them; 120. usage: flow.py SECONDS PROGRAM ARG...; prints "NAME PAUSE-MS" for each mark, and exits with 0 if every number came back."""
import os, select, subprocess, sys, time

seconds = float(sys.argv[1])
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(os.environ.get("FLOW_LOG", "/dev/null"), "wb"))
os.set_blocking(child.stdin.fileno(), False)
os.set_blocking(0, False)
SIZE = int(os.environ.get("FLOW_SIZE", "160"))
start = time.monotonic()
sent = expected = 0
out = buffer = commands = b""
mark = None
heard = None
pause = 0.0
due = start


def number(n):
    return n.to_bytes(8, "big") * (SIZE // 8)


def tell():
    global mark, pause
    if mark:
        print(mark, round(max(pause, time.monotonic() - heard) * 1000), flush=True)
    mark, pause = None, 0.0


while True:
    now = time.monotonic()
    if now - start < seconds:
        while due <= now:
            out += number(sent)
            sent += 1
            due += 0.02
    elif expected == sent or now - start > seconds + float(os.environ.get("FLOW_PATIENCE", "120")):
        break
    try:
        out = out[os.write(child.stdin.fileno(), out):] if out else out
    except BlockingIOError:
        pass
    ready, _, _ = select.select([child.stdout, 0], [], [], 0.01)
    if 0 in ready:
        data = os.read(0, 4096)
        commands += data
        while b"\n" in commands:
            line, commands = commands.split(b"\n", 1)
            words = line.decode().split(None, 1)
            if words[0] == "mark":
                tell()
                mark, heard = words[1], time.monotonic()
            elif words[0] == "back":
                heard, pause = time.monotonic(), 0.0
    if child.stdout in ready:
        data = os.read(child.stdout.fileno(), 1 << 16)
        if not data:
            break
        now = time.monotonic()
        if heard is not None:
            pause = max(pause, now - heard)
            heard = now
        buffer += data
        while len(buffer) >= SIZE:
            if buffer[:SIZE] != number(expected):
                print("wrong: number", int.from_bytes(buffer[:8], "big"), "and not", expected, flush=True)
                child.kill()
                sys.exit(1)
            buffer = buffer[SIZE:]
            expected += 1
tell()
print("numbers", expected, "of", sent, flush=True)
child.stdin.close()
try:
    child.wait(20)
except subprocess.TimeoutExpired:
    print("it does not end", flush=True)
    child.kill()
    sys.exit(1)
sys.exit(0 if expected == sent else 1)
