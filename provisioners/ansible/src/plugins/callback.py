"""Tells kiln what becomes of each task: results as events, and what failed where."""

DOCUMENTATION = r"""
    name: kiln
    type: notification
    author: kiln
    short_description: tells kiln what becomes of each task
    description:
      - Sends the results of tasks to the kiln that runs the playbook. Without one it does nothing.
    version_added: "2.9"
"""

import json
import os
import socket
import struct
import time

from ansible.plugins.callback import CallbackBase

HEADER = struct.Struct(">cI")
LONGEST_ADDRESS = 100

# How much of an output is told for a failure.
TAIL = 2000


class CallbackModule(CallbackBase):
    """Results for kiln."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "kiln"
    CALLBACK_NEEDS_ENABLED = False
    CALLBACK_NEEDS_WHITELIST = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.play = ""
        self.started = {}
        self.stream = None
        path = os.environ.get("KILN_ANSIBLE_SOCKET")
        if path:
            try:
                self.stream = dial(path)
                self._send(b"R", {"do": "results"})
            except OSError:
                self.stream = None
        if self.stream is None:
            self.disabled = True

    def _send(self, kind, value):
        if self.stream is None:
            return
        data = json.dumps(value, default=str).encode("utf-8")
        try:
            self.stream.sendall(HEADER.pack(kind, len(data)) + data)
        except OSError:
            self.stream = None

    def v2_playbook_on_play_start(self, play):
        self.play = str(play.get_name()).strip()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.started[task._uuid] = time.time()

    def v2_playbook_on_handler_task_start(self, task):
        self.started[task._uuid] = time.time()

    def v2_playbook_on_no_hosts_matched(self):
        self._send(b"I", {"no_hosts": self.play})

    def v2_runner_on_ok(self, result):
        self._tell(result, "changed" if body(result).get("changed") else "ok")

    def v2_runner_on_skipped(self, result):
        self._tell(result, "skipped")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._tell(result, "ignored" if ignore_errors else "failed", reason(body(result)))

    def v2_runner_on_unreachable(self, result):
        self._tell(result, "unreachable", reason(body(result)))

    def _tell(self, result, outcome, message=None):
        task, host = result._task, result._host
        started = self.started.get(task._uuid)
        told = {
            "play": self.play,
            "task": str(task.get_name()).strip(),
            "host": str(host.get_name()),
            "result": outcome,
            "place": task.get_path() or None,
            "message": message,
            "seconds": time.time() - started if started else 0.0,
        }
        self._send(b"I", told)


def body(result):
    """What a task gave, without what `no_log` hides."""
    return getattr(result, "_result", None) or {}


def reason(given):
    """Why a task failed, in its own words."""
    parts = []
    if given.get("msg") not in (None, ""):
        parts.append(text(given["msg"]))
    # A loop says only that an item failed; the item says why.
    for item in given.get("results") or []:
        if isinstance(item, dict) and item.get("failed"):
            label = item.get("_ansible_item_label", item.get("item"))
            parts.append("item `%s`: %s" % (text(label), reason(item)))
    if given.get("rc") not in (None, 0) and "stderr" in given:
        parts.append("status %s" % given["rc"])
    for name in ("stderr", "module_stderr", "stdout", "module_stdout"):
        output = text(given.get(name) or "").strip()
        if output and output not in "\n".join(parts):
            parts.append(output if len(output) <= TAIL else "..." + output[-TAIL:])
            break
    return "\n".join(part for part in parts if part)


def text(value):
    return value if isinstance(value, str) else json.dumps(value, default=str)


def dial(path):
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = None
    try:
        if len(os.fsencode(path)) > LONGEST_ADDRESS:
            directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
            path = "/proc/self/fd/%d/%s" % (directory, os.path.basename(path))
        stream.connect(path)
    except OSError:
        stream.close()
        raise
    finally:
        if directory is not None:
            os.close(directory)
    return stream
