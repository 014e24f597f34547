"""Machines behind instances: nothing at all, or an own sshd in name spaces on an overlay of the root file system.

A machine image is what a backend makes of an instance's disk: for `chroot` a list of layers, newest first.
"""

import os
import shutil
import signal
import subprocess
import threading

from cloudinit import UserData, put

BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.sh")


class Machine:
    """An instance's machine; this one is none at all."""

    def __init__(self, directory, address, options):
        self.directory, self.address, self.options = directory, address, options
        self.process = None

    def start(self, instance, image, reachable=True): pass

    def stop(self): pass

    def remove(self): pass

    def image(self, name): return None

    def console(self): return b""

    def drop_sessions(self, how): return 0


class ChrootMachine(Machine):
    """Overlay, pid, mount, uts and ipc name spaces, and an sshd on the instance's loopback address."""

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def seed(self, instance, reachable):
        """What the machine is told by its data source."""
        shutil.rmtree(self.path("seed"), ignore_errors=True)
        data = UserData(instance.user_data)
        if self.options.get("cloud_init", True):
            data.write(self.path("seed"))
        keys = [key for key in [instance.key, *data.authorized] if key]
        put(self.path("seed", "authorized_keys"), "".join(key + "\n" for key in keys).encode(), 0o644)
        put(self.path("seed", "id"), instance.id.encode(), 0o644)
        put(self.path("seed", "minute"), str(self.options.get("minute", 60)).encode(), 0o644)
        put(self.path("seed", "ssh-delay"), str(self.options.get("ssh_delay", 0)).encode(), 0o644)
        if reachable:
            put(self.path("seed", "reachable"), b"", 0o644)

    def start(self, instance, image, reachable=True):
        self.layers = list(image or []) + [self.options["rootfs"]]
        for name in ("upper", "work", "merged"):
            os.makedirs(self.path(name), exist_ok=True)
        self.seed(instance, reachable)
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "MACHINE": self.directory,
            "LAYERS": ":".join(self.layers),
            "ADDRESS": self.address,
            "PORT": str(self.options["ssh_port"]),
        }
        unshare = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--kill-child", "--propagation", "private"]
        with open(self.path("console"), "ab") as console:
            self.process = subprocess.Popen(
                [*unshare, "sh", BOOT], env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )

    def wait(self):
        """Waits until the machine has ended by itself or was stopped: what it wanted to be, `reboot` or `poweroff`."""
        self.process.wait()
        try:
            with open(self.path("seed", "power"), encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return ""

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def image(self, name):
        layer = os.path.join(os.path.dirname(self.directory), "images", name)
        os.makedirs(os.path.dirname(layer), exist_ok=True)
        subprocess.run(["cp", "-a", self.path("upper"), layer], check=True)
        return [layer] + self.layers[:-1]

    def console(self):
        with open(self.path("console"), "rb") as file:
            return file.read()[-65536:]

    def processes(self):
        """Processes of this machine as pairs of pid and command line, seen from outside."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            first = file.read().split()
        if not first:
            return []
        space, found = os.readlink(f"/proc/{first[0]}/ns/pid"), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") == space:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        found.append((int(pid), file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()))
            except OSError:
                continue
        return found

    def drop_sessions(self, how):
        """Ends (`KILL`) or freezes (`STOP`) what serves SSH connections, not the listener: how many there were."""
        sessions = [pid for pid, line in self.processes() if line.startswith("sshd:") and "listener" not in line]
        for pid in sessions:
            os.kill(pid, getattr(signal, f"SIG{how}"))
        return len(sessions)


def watch(machine, ended):
    """Calls `ended(what)` once the machine ends."""
    threading.Thread(target=lambda: ended(machine.wait()), daemon=True).start()
