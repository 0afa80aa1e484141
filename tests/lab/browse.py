"""Opens a page with Chromium and prints what stands in its element "out", when that has a line with the text given, or after
25 s. usage: browse.py URL TEXT PROFILE [chromium's options]"""
import json, os, subprocess, sys, time

url, text, profile = sys.argv[1:4]
to_r, to_w = os.pipe()
from_r, from_w = os.pipe()


def pipes():  # --remote-debugging-pipe: 3 is read, 4 is written
    a, b = os.dup(to_r), os.dup(from_w)
    os.dup2(a, 3)
    os.dup2(b, 4)


browser = subprocess.Popen(
    ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--ignore-certificate-errors",
     "--no-first-run", "--disable-background-networking", "--user-data-dir=" + profile, "--remote-debugging-pipe",
     *sys.argv[4:]], preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
out = os.fdopen(from_r, "rb", 0)
number, rest = 0, b""


def ask(method, session=None, **params):
    global number, rest
    number += 1
    message = {"id": number, "method": method, "params": params}
    if session:
        message["sessionId"] = session
    os.write(to_w, json.dumps(message).encode() + b"\0")
    while True:
        while b"\0" not in rest:
            rest += out.read(65536)
        one, rest = rest.split(b"\0", 1)
        answer = json.loads(one)
        if answer.get("id") == number:
            return answer.get("result", {})


said = ""
try:
    target = ask("Target.createTarget", url=url)["targetId"]
    session = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    end = time.monotonic() + 25
    while time.monotonic() < end and text not in said:
        time.sleep(0.3)
        r = ask("Runtime.evaluate", session, expression="(document.getElementById('out') || {}).innerText || ''")
        said = r.get("result", {}).get("value", "")
finally:
    browser.kill()
    browser.wait()
print(said)
sys.exit(text not in said)
