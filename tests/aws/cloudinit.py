"""User data as cloud-init reads it, as far as builds use it: scripts, boot hooks, and the host keys, files and commands of cloud-config."""

import base64
import email
import gzip
import os
import shlex

import yaml

CONFIG, SCRIPT, HOOK = "text/cloud-config", "text/x-shellscript", "text/cloud-boothook"


class UserData:
    """What user data asks for."""

    def __init__(self, data):
        self.host_keys = {}  # file name below /etc/ssh -> text
        self.files = []  # (path, mode, bytes)
        self.scripts = []  # texts, in their order; run once, when the machine is up
        self.hooks = []  # run early, at every boot
        self.authorized = []
        self.problems = []
        for kind, content in parts(data):
            if kind == CONFIG:
                self.read_config(content)
            elif kind == SCRIPT:
                self.scripts.append(content)
            elif kind == HOOK:
                self.hooks.append(content.removeprefix("#cloud-boothook\n"))
            elif content.strip():
                self.problems.append(f"user data of type {kind} is passed over")

    def read_config(self, content):
        try:
            config = yaml.safe_load(content) or {}
        except yaml.YAMLError as error:
            self.problems.append(f"cloud-config is no YAML: {error}")
            return
        for name, value in (config.get("ssh_keys") or {}).items():
            kind, _, part = name.rpartition("_")
            suffix = {"private": "", "public": ".pub", "certificate": "-cert.pub"}.get(part)
            if suffix is None:
                self.problems.append(f"ssh_keys.{name} is not known")
                continue
            self.host_keys[f"ssh_host_{kind}_key{suffix}"] = value.rstrip("\n") + "\n"
        self.authorized += config.get("ssh_authorized_keys") or []
        for file in config.get("write_files") or []:
            content = file.get("content", "")
            encoding = file.get("encoding", "")
            data = base64.b64decode(content) if encoding in ("b64", "base64") else content.encode()
            self.files.append((file["path"], int(str(file.get("permissions", "0644")), 8), data))
        for command in (config.get("bootcmd") or []) + (config.get("runcmd") or []):
            line = command if isinstance(command, str) else shlex.join(str(word) for word in command)
            self.scripts.append(f"#!/bin/sh\n{line}\n")

    def write(self, directory):
        """Lays it down for the machine's start: `hostkeys/`, `files/` with their paths, `scripts/NN`, `hooks/NN`."""
        for name, text in self.host_keys.items():
            put(os.path.join(directory, "hostkeys", name), text.encode(), 0o644 if name.endswith(".pub") else 0o600)
        for path, mode, data in self.files:
            put(os.path.join(directory, "files", path.lstrip("/")), data, mode)
        for kind, texts in (("scripts", self.scripts), ("hooks", self.hooks)):
            for number, text in enumerate(texts):
                put(os.path.join(directory, kind, f"{number:02}"), text.encode(), 0o755)
        put(os.path.join(directory, "problems"), "".join(line + "\n" for line in self.problems).encode(), 0o644)


def put(path, data, mode):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def parts(data):
    """Pairs of type and text."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    head = data.lstrip()[:200].lower()
    if head.startswith((b"content-type:", b"mime-version:")):
        for part in email.message_from_bytes(data).walk():
            if part.get_content_maintype() == "multipart":
                continue
            payload = part.get_payload(decode=True) or b""
            yield from typed(payload, part.get_content_type())
    else:
        yield from typed(data, "text/plain")


def typed(data, told):
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    text = data.decode("utf-8", "replace")
    # What a part begins with counts where its type says nothing.
    if told in ("text/plain", "application/octet-stream"):
        first = text.lstrip().split("\n", 1)[0]
        marks = {"#cloud-config": CONFIG, "#!": SCRIPT, "#cloud-boothook": HOOK}
        told = next((kind for mark, kind in marks.items() if first.startswith(mark)), told)
    yield told, text
