#!/usr/bin/env python3
"""Runs icebridge for WebRTC peers that reach it by HTTP, and serves them a page.
usage: ice_webrtc.py ICEBRIDGE PORT PAGE; what is said to /say/... is printed."""
import http.server
import os
import subprocess
import sys
import threading
import urllib.parse

bridge = None
lock = threading.Condition()
local, done, paths = ["", ""], [False, False], [None, None]


def listen(process):
    for line in process.stdout:
        who, text = int(line[0]), line[2:].strip()
        with lock:
            if process is not bridge:
                return
            if text == ".":
                done[who] = True
            elif text.startswith("path "):
                paths[who] = text[5:]
            else:
                local[who] += text + "\n"
            lock.notify_all()


def start(how):
    global bridge
    if bridge:
        bridge.stdin.close()
        bridge.wait(10)
    with lock:
        local[:], done[:], paths[:] = ["", ""], [False, False], [None, None]
        bridge = subprocess.Popen([sys.argv[1], *how.split()], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, bufsize=1)
    threading.Thread(target=listen, args=(bridge,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, text, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        path = urllib.parse.unquote(self.path)
        if path.startswith("/say/"):
            # One write: requests have a thread each, and a line must stay one.
            os.write(1, (path[5:] + "\n").encode())
            self.answer("")
        elif path.startswith("/local/"):
            with lock:
                lock.wait_for(lambda: done[int(path[7])], 10)
                self.answer(local[int(path[7])])
        elif path == "/paths":
            self.answer(";".join(str(p) for p in paths))
        else:
            self.answer(open(sys.argv[3]).read() if path == "/" else "", "text/html")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/start":
            start(body)
        else:
            who = self.path[-1]
            for line in body.splitlines() + ["."]:
                bridge.stdin.write(f"{who} {line}\n")
            bridge.stdin.flush()
        self.answer("")

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
