#!/usr/bin/env python3
"""Measures thalwegd beside coturn on this machine, in one run, turn and turn about.

CPU time is the server's own, per packet or request, from its threads' schedstat: on loopback that
contains the kernel's work of sending and delivering. Medians of all rounds, with the least and the
most; ratios are of medians, against the coturn named. Lower is better everywhere except where the
unit says "per CPU second"."""
import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-bench"
ONE_CORE, TWO_CORES = "one core", "two cores"

# name, where, turnbench arguments, field, unit, the figure we must reach
SCENARIOS = [
    ("up, one flow, 172 B", ONE_CORE, "up --clients 1", "cpu_us", "us", 0.55),
    ("down, one flow, 172 B", ONE_CORE, "down --clients 1", "cpu_us", "us", 0.55),
    ("up, 200 clients in turn, 172 B", ONE_CORE, "up --clients 200", "cpu_us", "us", 0.8),
    ("down, 200 clients in turn, 172 B", ONE_CORE, "down --clients 200", "cpu_us", "us", 0.8),
    ("up, bursts of 32 x 1200 B (GSO)", ONE_CORE, "up --size 1200 --burst 32 --window 512",
     "cpu_us", "us", 0.35),
    ("Binding requests", ONE_CORE, "binding", "cpu_us", "us", 1 / 1.5),
    ("up, one flow, 172 B", TWO_CORES, "up --clients 1", "cpu_us", "us", None),
    ("down, one flow, 172 B", TWO_CORES, "down --clients 1", "cpu_us", "us", None),
    ("up, 200 clients in turn, 172 B", TWO_CORES, "up --clients 200", "cpu_us", "us", None),
    ("down, 200 clients in turn, 172 B", TWO_CORES, "down --clients 200", "cpu_us", "us", None),
    ("Binding requests", TWO_CORES, "binding", "cpu_us", "us", None),
    ("round trip through the relay, idle, p50", TWO_CORES, "latency --count 2000", "p50_us", "us", 1.0),
    ("round trip through the relay, idle, p99", TWO_CORES, "latency --count 2000", "p99_us", "us", None),
]
COMMON = "-n -L 127.0.0.1 -E 127.0.0.1 -u u:p -r r -a --allow-loopback-peers -m 1".split()


class Server:
    def __init__(self, name, command, port, extra=()):
        self.name, self.command, self.port, self.extra = name, command, port, list(extra)
        self.process = None
        self.dtls = []  # what switches DTLS on where it is not

    def start(self, where):
        prefix = ["taskset", "-c", "1"]
        if where == ONE_CORE:  # SCHED_BATCH: waking it does not preempt the load, so queues fill
            prefix = ["chrt", "-b", "0"] + prefix
        self.process = subprocess.Popen(prefix + self.command + COMMON + self.extra +
                                        ["-p", str(self.port)], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        time.sleep(1)
        if self.process.poll() is not None:
            sys.exit(f"{self.name} did not start: {' '.join(self.command)}")

    def stop(self):
        for _ in range(2):  # the first makes thalwegd wait for allocations to end, the second ends it
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def measure(self, where, args):
        cpu = "1" if where == ONE_CORE else "0"
        out = subprocess.run(["taskset", "-c", cpu, str(BUILD / "turnbench")] + args.split() +
                             ["--server", f"127.0.0.1:{self.port}", "--pid", str(self.process.pid)],
                             capture_output=True, text=True, timeout=120)
        if out.returncode:
            print(f"  {self.name}: {out.stderr.strip()}", file=sys.stderr)
            return None
        return json.loads(out.stdout)


def coturn(name, command, port, scratch):
    """coturn's default mode; options that a version does not know are left out."""
    usage = subprocess.run(command + ["-h"], capture_output=True, text=True)
    known = usage.stdout + usage.stderr
    wish = ["--no-tcp", "--no-tls", "--no-dtls", "--no-tcp-relay", "--no-cli"]
    version = subprocess.run(command + ["--version"], capture_output=True, text=True)
    number = [w for w in (version.stdout + version.stderr).split() if w[:1].isdigit()]
    extra = [o for o in wish if o in known.split()]
    server = Server(f"coturn {number[-1] if number else name}", command, port,
                    extra + ["--log-file", "/dev/null", "--pidfile", f"{scratch}/{port}.pid"])
    if "--no-dtls" not in known.split():  # from 4.17 on
        server.dtls = ["--dtls"]
    return server


def servers(args, scratch):
    found = [Server("thalwegd", [str(BUILD / "thalwegd")], 35000)]
    newest = subprocess.run([str(ROOT / "bench/newest-coturn")], capture_output=True, text=True)
    if newest.returncode == 0:
        found.append(coturn("newest", newest.stdout.split(), 35001, scratch))
    else:
        print("the newest coturn could not be fetched; only the installed one is measured")
    installed = shutil.which("turnserver")
    if installed:
        found.append(coturn("installed", [installed], 35002, scratch))
    if len(found) == 1:
        sys.exit("there is no coturn to measure against; tools/bootstrap bench installs it")
    return found


def median(values):
    return statistics.median(values) if values else float("nan")


def spread(values):
    return f"{median(values):8.3f} [{min(values):.3f} {max(values):.3f}]" if values else "failed"


def run_scenarios(found, args, results):
    for where in (ONE_CORE, TWO_CORES):
        todo = [s for s in SCENARIOS if s[1] == where]
        print(f"\n== {where}: " + ("server and load share a core, the server always finds a full queue"
                                   if where == ONE_CORE else
                                   "the server has a core of its own and keeps up, so batches are small"))
        for name, _, what, field, unit, goal in todo:
            values = {s.name: [] for s in found}
            lost = {s.name: 0 for s in found}
            for s in found:
                s.start(where)
            for _ in range(args.rounds):
                for s in found:
                    seconds = "" if what.startswith("latency") else f" --seconds {args.seconds}"
                    r = s.measure(where, what + seconds)
                    if r:
                        values[s.name].append(r[field])
                        lost[s.name] += r.get("lost", 0)
            for s in found:
                s.stop()
            print(f"{name} ({unit})")
            ours = median(values[found[0].name])
            for s in found:
                line = f"    {s.name:16} {spread(values[s.name])}"
                if s is not found[0] and values[s.name]:
                    line += f"   ours is {ours / median(values[s.name]):.2f} x"
                    if goal and s is found[1]:
                        ok = ours / median(values[s.name]) <= goal
                        line += f"  (goal {goal:.2f}: {'reached' if ok else 'MISSED'})"
                if lost[s.name]:
                    line += f"   lost {lost[s.name]}"
                print(line)
            results.append({"name": name, "where": where, "unit": unit, "values": values,
                            "lost": lost})


def run_allocations(found, args, results):
    print("\n== allocations, each with a 401 and full authentication; 10,000, 64 at a time")
    for s in found:
        s.start(TWO_CORES)
        r = s.measure(TWO_CORES, "allocate --count 10000 --base 1")
        s.stop()
        if r:
            print(f"    {s.name:16} {r['cpu_us']:8.1f} us of server CPU, {r['rss_kib']:.2f} KiB "
                  f"resident each")
            results.append({"name": "allocation", "server": s.name, **r})
    print("    goals: 40 us, 2.5 KiB")


def measure_all(found, args, what, field, rounds):
    values = {s.name: [] for s in found}
    for s in found:
        s.start(ONE_CORE)
    for _ in range(rounds):
        for s in found:
            r = s.measure(ONE_CORE, what)
            if r:
                values[s.name].append(r[field])
    for s in found:
        s.stop()
    ours = median(values[found[0].name])
    for s in found:
        line = f"    {s.name:16} {spread(values[s.name])}"
        if s is not found[0] and values[s.name]:
            line += f"   ours is {ours / median(values[s.name]):.2f} x"
        print(line)
    return values


def run_transports(found, args, results):
    """TCP, TLS and DTLS between client and server; UDP to the peer. Both have one certificate."""
    scratch = BUILD / "scratch"
    key, cert = str(scratch / "key.pem"), str(scratch / "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", key, "-out", cert, "-days", "30", "-subj", "/CN=bench"],
                   check=True, stderr=subprocess.DEVNULL)
    off = ["--no-tcp", "--no-tls", "--no-dtls"]
    secure = [Server(s.name, s.command, s.port,
                     [x for x in s.extra if x not in off] + s.dtls + ["--cert", cert, "--pkey", key,
                                                             "--tls-listening-port", str(s.port + 100)])
              for s in found]
    secure[0].extra += ["--max-handshakes", "1000000", "--max-half-open", "100000"]  # coturn has no limit
    print("\n== over TCP, TLS and DTLS, 172 B; server and load share a core")
    for over in () if args.only == "connections" else ("tcp", "tls", "dtls"):
        for name, what in (("up, one flow", "up --clients 1"), ("down, one flow", "down --clients 1"),
                           ("up, 50 clients in turn", "up --clients 50"),
                           ("down, 50 clients in turn", "down --clients 50")):
            print(f"{over}, {name} (us of server CPU a packet)")
            values = measure_all(secure, args, f"{what} --over {over} --seconds {args.seconds}",
                                 "cpu_us", args.rounds)
            results.append({"name": f"{over}, {name}", "values": values})
    for over in ("tcp", "tls", "dtls"):
        for field, text in (("cpu_us", "us of server CPU to connect and allocate"),
                            ("rss_kib", "KiB resident a client that has an allocation")):
            print(f"{over}: {text}; 500 clients")
            values = measure_all(secure, args, f"connect --clients 500 --over {over}", field,
                                 1 if field == "rss_kib" else 3)
            results.append({"name": f"{over}, {text}", "values": values})


def run_many(args, results):
    """100,000 on one server, and the cost of a packet with so many beside it."""
    relays = [x for i in range(1, 9) for x in ("-E", f"127.0.0.{i}")]
    server = Server("thalwegd", [str(BUILD / "thalwegd")], 35000)
    print("\n== 100,000 allocations on one thalwegd: 8 workers, 8 relay addresses")
    process = subprocess.Popen([str(BUILD / "thalwegd"), "-L", "127.0.0.1", *relays, "-u", "u:p", "-r",
                                "r", "--allow-loopback-peers", "-m", "8", "-p", "35000"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server.process = process
    time.sleep(1)
    try:
        made = 0
        for base in range(1, 6):
            cost = [server.measure(TWO_CORES, f"up --clients 200 --seconds {args.seconds}")["cpu_us"]
                    for _ in range(3)]
            print(f"    {made:7} other allocations: {median(cost):.2f} us a packet, 200 clients in turn, up")
            results.append({"name": "flat", "allocations": made, "cpu_us": median(cost)})
            if base == 5:
                break
            r = server.measure(TWO_CORES, f"allocate --count 25000 --base {base}")
            if not r:
                print("    stopped: the server refused more")
                break
            made += r["allocations"]
            print(f"            25,000 more: {r['cpu_us']:.1f} us and {r['rss_kib']:.2f} KiB each")
            results.append({"name": "many", "total": made, **r})
    finally:
        server.stop()


def build():
    if not (BUILD / "build.ninja").exists():
        subprocess.run(["meson", "setup", str(BUILD), "--buildtype=release"], check=True, cwd=ROOT,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(BUILD), "thalwegd", "turnbench"], check=True,
                   stdout=subprocess.DEVNULL)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    p.add_argument("--only", choices=["flows", "allocations", "transports", "connections", "many"])
    p.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    args = p.parse_args()
    if os.cpu_count() < 2:
        sys.exit("this needs two cores")
    build()
    scratch = BUILD / "scratch"
    scratch.mkdir(exist_ok=True)
    results = []
    found = servers(args, scratch)
    print(f"{args.rounds} rounds of {args.seconds} s; median [least most]; measured: "
          + ", ".join(s.name for s in found))
    if args.only in (None, "flows"):
        run_scenarios(found, args, results)
    if args.only in (None, "allocations"):
        run_allocations(found, args, results)
    if args.only in (None, "transports", "connections"):
        run_transports(found, args, results)
    if args.only in (None, "many"):
        run_many(args, results)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1))


main()
