#!/usr/bin/env python3
"""EC2 on loopback with real machines behind its instances; see README.md. Everything listens on 127.0.0.0/8 only."""

import argparse
import http.server
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import urllib.parse

import calls
from account import Account
from machines import ChrootMachine, Machine
from moto import Moto
from vm import VmMachine

BACKENDS = {"none": Machine, "chroot": ChrootMachine, "vm": VmMachine}


class Harness:
    def __init__(self, options):
        self.options, self.accounts, self.aliases = options, {}, {}
        self.lock, self.count = threading.Lock(), 0
        self.moto = Moto(options["moto"], options["state"])
        self.log = open(os.path.join(options["state"], "calls.jsonl"), "a", buffering=1, encoding="utf-8")

    def account(self, key):
        with self.lock:
            key = self.aliases.get(key, key)
            if key not in self.accounts:
                self.accounts[key] = Account(key, self)
            return self.accounts[key]

    def new_machine(self, account, instance):
        with self.lock:
            self.count += 1
            number = self.count
        address = f"{self.options['network']}.{number >> 8}.{number & 255}"
        directory = os.path.join(self.options["state"], account.key, instance.id)
        options = {**self.options, **account.settings.values}
        return BACKENDS[self.options["backend"]](directory, address, options)

    def forget(self, key):
        account = self.account(key)
        account.forget()
        with self.lock:
            self.accounts.pop(account.key, None)
        shutil.rmtree(os.path.join(self.options["state"], account.key), ignore_errors=True)

    def stop(self):
        for key in list(self.accounts):
            self.forget(key)
        self.moto.stop()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    harness = None

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.path.startswith("/_/"):
                self.control(body)
            else:
                self.call(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = any

    # What a client of AWS asks

    def call(self, body):
        call = calls.Call(self.command, self.path, dict(self.headers), body)
        account = self.harness.account(call.key)
        started = time.time()
        fault = account.settings.fault(call.action, call.region) or {}
        record = {
            "t": round(started - account.started, 3), "service": call.service, "region": call.region, "action": call.action,
            "parameters": {name: value if len(value) < 200 else value[:80] + "..." for name, value in call.pairs.items()},
        }
        time.sleep(fault.get("delay", 0))
        if fault.get("drop"):
            self.note(account, record, started, 0, "dropped")
            return self.cut()
        if fault.get("code"):
            status, headers, data = calls.refusal(call, fault["code"], fault.get("message", "injected"), fault.get("status", 400))
        else:
            status, headers, data = calls.carry_out(self.harness, account, call)
        error = calls.error_of(data) if status >= 300 else None
        self.note(account, record, started, status, error)
        if fault.get("hold"):
            self.hold(account, call, fault["hold"])
        if fault.get("drop_reply"):
            return self.cut()
        self.answer(status, data, headers)

    def note(self, account, record, started, status, error):
        record |= {"ms": round((time.time() - started) * 1000), "status": status}
        if error:
            record["error"] = error
        account.log.append(record)
        self.harness.log.write(json.dumps({"key": account.key, **record}) + "\n")

    def hold(self, account, call, seconds):
        """Keeps the answer of a call that was carried out, until the test lets it go."""
        held = {"action": call.action, "go": threading.Event()}
        account.held.append(held)
        held["go"].wait(seconds)

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    # What a test asks: /_/KEY/WHAT

    def control(self, body):
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        words = path.strip("/").split("/")
        if words[1:] == ["health"]:
            return self.say({"ok": True, "backend": self.harness.options["backend"]})
        key, what = words[1], words[2]
        account = self.harness.account(key)
        given = json.loads(body) if body else None
        if what == "settings":
            account.settings.lags.update(given.pop("lags", {}))
            if "faults" in given:
                account.settings.faults, account.settings.counts = given.pop("faults"), {}
            account.settings.values.update(given)
            self.say({"number": account.number})
        elif what == "log":
            self.say(account.log)
        elif what == "left":
            self.say(account.left())
        elif what == "instances":
            self.say(list(account.described_instances()))
        elif what == "images":
            self.say({region: account.images(region).described() for region in sorted(account.touched)})
        elif what == "held":
            self.say([held["action"] for held in account.held])
        elif what == "release":
            for held in account.held:
                held["go"].set()
            account.held.clear()
            self.say({})
        elif what == "drop-ssh":
            machines = [item.machine for item in account.instances.values() if item.state == "running"]
            self.say({"sessions": sum(machine.drop_sessions(asked.get("signal", "KILL")) for machine in machines)})
        elif what == "forget":
            self.harness.forget(key)
            self.say({})
        else:
            self.answer(404, b"{}")

    def say(self, value):
        self.answer(200, json.dumps(value).encode(), [("Content-Type", "application/json")])


def lags(text):
    pairs = (item.split("=") for item in text.split(",") if item)
    return {name: float(seconds) for name, seconds in pairs}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--moto", default="moto_server", help="the program")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="chroot")
    parser.add_argument("--state", required=True, help="a directory for machines and logs")
    parser.add_argument("--images", default="", help="where the root file system (and a disk for `vm`) lies")
    parser.add_argument("--ssh-port", type=int, default=0, help="22 where this host has no sshd on all its addresses, else a free one")
    parser.add_argument("--lag", type=lags, default={}, help="running=S,stopped=S,terminated=S,image=S,copy=S,console=S")
    return parser.parse_args()


def free_ssh_port(network):
    for port in (22, 0):
        with socket.socket() as probe:
            # Connections of an earlier harness that are still timing out do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"{network}.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise SystemExit("no port for the machines' sshd")


def main():
    given = arguments()
    state = os.path.abspath(given.state)
    os.makedirs(state, exist_ok=True)
    # A second harness on this host has a network of its own.
    server = http.server.ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    server.daemon_threads = True
    port = server.server_address[1]
    network = f"127.{20 + port % 200}"
    images = os.path.abspath(given.images) if given.images else ""
    ssh_port = given.ssh_port or free_ssh_port(network)
    Handler.harness = harness = Harness({
        "moto": given.moto, "backend": given.backend, "state": state, "ssh_port": ssh_port, "lags": given.lag,
        "images": images, "rootfs": os.path.join(images, "rootfs"), "network": network,
    })

    def end(*_):
        # A second signal must not come in between.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        harness.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    harness.moto.wait()
    with open(os.path.join(state, "environment"), "w", encoding="ascii") as file:
        file.write(f"KILN_TEST_AWS=http://127.0.0.1:{port}\nKILN_TEST_AWS_SSH_PORT={ssh_port}\nKILN_TEST_AWS_PYTHON={sys.executable}\n")
    print(f"EC2 at http://127.0.0.1:{port}, backend {given.backend}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
