"""Reaches the machine that kiln builds, through kiln itself.

kiln serves one unix socket while it runs a playbook. Each operation is one connection to it: a request, its input, then its
output as it comes. Frames are a letter, the length of what follows (four bytes, big-endian), and that many bytes.
"""

DOCUMENTATION = r"""
    name: kiln
    author: kiln
    short_description: the machine that kiln builds
    description:
      - Runs commands on the machine that kiln builds and moves files, by whatever way kiln itself reaches it.
    version_added: "2.9"
    options:
      remote_user:
        description: The user that commands run as. kiln decides that; the name is only told to the playbook.
        vars:
          - name: ansible_user
      pipelining:
        description: Modules are sent over the connection and are never stored on the machine.
        default: true
        type: bool
        env:
          - name: ANSIBLE_PIPELINING
        vars:
          - name: ansible_pipelining
      host:
        description: The host of the inventory.
        vars:
          - name: inventory_hostname
      address:
        description: Its address.
        vars:
          - name: ansible_host
"""

import json
import os
import shlex
import socket
import struct
import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

display = Display()

HEADER = struct.Struct(">cI")
REQUEST, INPUT, END = b"R", b"I", b"E"
STDOUT, STDERR, STATUS, FAILURE = b"O", b"X", b"S", b"F"

# A path longer than this does not fit into a socket's address.
LONGEST_ADDRESS = 100
CHUNK = 1 << 20

# Addresses under which the inventory of kiln, or one made for Packer, names the machine.
OWN_ADDRESSES = ("127.0.0.1", "localhost", "::1")


class Stream:
    """One connection to kiln."""

    def __init__(self, request):
        self.socket = dial(os.environ.get("KILN_ANSIBLE_SOCKET", ""))
        self.send(REQUEST, json.dumps(request).encode("utf-8"))

    def send(self, kind, data=b""):
        try:
            self.socket.sendall(HEADER.pack(kind, len(data)))
            if data:
                self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # kiln says why in what can still be read.
            pass

    def send_all(self, data):
        for start in range(0, len(data), CHUNK):
            self.send(INPUT, data[start : start + CHUNK])
        self.send(END)

    def read(self, length):
        data = bytearray()
        while len(data) < length:
            try:
                part = self.socket.recv(min(length - len(data), CHUNK))
            except OSError as error:
                raise AnsibleConnectionFailure("kiln does not answer any more: %s" % error)
            if not part:
                raise AnsibleConnectionFailure("kiln has ended, or ended this playbook")
            data += part
        return bytes(data)

    def frame(self):
        kind, length = HEADER.unpack(self.read(HEADER.size))
        data = self.read(length)
        if kind == FAILURE:
            raise AnsibleConnectionFailure(data.decode("utf-8", "replace"))
        return kind, data

    def close(self):
        self.socket.close()


def dial(path):
    """Connects to kiln's socket, however long its path is."""
    if not path:
        raise AnsibleError("the connection `kiln` works only in playbooks that kiln runs (KILN_ANSIBLE_SOCKET is not set)")
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = None
    try:
        if len(os.fsencode(path)) > LONGEST_ADDRESS:
            directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
            path = "/proc/self/fd/%d/%s" % (directory, os.path.basename(path))
        stream.connect(path)
    except OSError as error:
        stream.close()
        raise AnsibleConnectionFailure("kiln does not answer: %s" % error)
    finally:
        if directory is not None:
            os.close(directory)
    return stream


class Connection(ConnectionBase):
    """The machine that kiln builds."""

    transport = "kiln"
    has_pipelining = True

    def _connect(self):
        if not self._connected:
            self._check_host()
            self._connected = True
        return self

    def _check_host(self):
        # Another host must not be taken for the machine: what was meant for it would run here.
        name = getattr(self._play_context, "delegate_to", None) or self.get_option("host")
        own = OWN_ADDRESSES + (os.environ.get("KILN_ANSIBLE_HOST"),)
        if name in own or self.get_option("address") in OWN_ADDRESSES:
            return
        raise AnsibleError(
            "`%s` is not the machine that kiln builds; to reach another host, tell Ansible how: "
            "`ansible_connection: ssh` among its variables" % name
        )

    def _request(self, request):
        self._connect()
        return Stream(request)

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        display.vvv("EXEC %s" % cmd, host=self.get_option("host"))
        # What becomes another user may ask for a password, before it reads what is for the command.
        asks = bool(sudoable and self.become and self.become.expect_prompt())
        executable = shlex.split(self._play_context.executable or "/bin/sh")
        stream = self._request({"do": "exec", "argv": executable + ["-c", cmd], "asks": asks})
        try:
            output = {STDOUT: bytearray(), STDERR: bytearray()}
            if asks:
                status = self._answer(stream, output)
                if status is not None:
                    return status, bytes(output[STDOUT]), bytes(output[STDERR])
            stream.send_all(in_data or b"")
            return self._finish(stream, output)
        finally:
            stream.close()

    def _finish(self, stream, output):
        while True:
            kind, data = stream.frame()
            if kind == STATUS:
                return json.loads(data.decode("utf-8"))["status"], bytes(output[STDOUT]), bytes(output[STDERR])
            output[kind] += data

    def _answer(self, stream, output):
        """Answers what asks for a password; gives the status of a command that ended meanwhile."""
        timeout = self._play_context.timeout or 10
        deadline = time.time() + timeout
        is_sent = False
        seen = {STDOUT: 0, STDERR: 0}
        while not self.become.check_success(bytes(output[STDOUT])):
            stream.socket.settimeout(max(0.1, deadline - time.time()))
            try:
                kind, data = stream.frame()
            except AnsibleConnectionFailure:
                if time.time() < deadline:
                    raise
                raise AnsibleError("%s: nothing came within %d s" % (self.become.name, timeout))
            if kind == STATUS:
                return json.loads(data.decode("utf-8"))["status"]
            output[kind] += data
            if is_sent:
                if self.become.check_incorrect_password(bytes(output[kind][seen[kind] :])):
                    raise AnsibleError("Incorrect %s password" % self.become.name)
            elif self.become.check_password_prompt(bytes(output[kind])):
                password = self.become.get_option("become_pass", playcontext=self._play_context)
                if not password:
                    raise AnsibleError("Missing %s password" % self.become.name)
                stream.send(INPUT, password.encode("utf-8", "surrogateescape") + b"\n")
                is_sent = True
                deadline = time.time() + timeout
                seen = {STDOUT: len(output[STDOUT]), STDERR: len(output[STDERR])}
        stream.socket.settimeout(None)
        return None

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        display.vvv("PUT %s TO %s" % (in_path, out_path), host=self.get_option("host"))
        if not os.path.exists(in_path):
            raise AnsibleFileNotFound("file or module does not exist: %s" % in_path)
        self._transfer({"do": "put", "from": os.path.abspath(in_path), "to": out_path}, "transfer file to %s" % out_path)

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        display.vvv("FETCH %s TO %s" % (in_path, out_path), host=self.get_option("host"))
        self._transfer({"do": "fetch", "from": in_path, "to": os.path.abspath(out_path)}, "fetch %s" % in_path)

    def _transfer(self, request, what):
        stream = self._request(request)
        try:
            status, stdout, stderr = self._finish(stream, {STDOUT: bytearray(), STDERR: bytearray()})
        finally:
            stream.close()
        if status != 0:
            raise AnsibleError("failed to %s:\n%s" % (what, (stdout + stderr).decode("utf-8", "replace")))

    def reset(self):
        self._connected = False

    def close(self):
        self._connected = False
