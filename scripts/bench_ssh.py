#!/usr/bin/python3
"""Figures of SSH against OpenSSH and Packer, on one machine, in one run; medians, as ratios.

    bench_ssh.py KILN [RUNS] [FIGURE...]

Figures: file, tree, far, commands, steps; all of them where none is named. Needs packer 1.6.6 and OpenSSH's server and
client. A server of its own is started on loopback and ended here; whoever runs this logs in to it. Exits with 1 when a figure
misses its target. Runs alternate, so that a machine whose speed drifts does not favour one side.
"""

import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import benchlib
from benchlib import QUIET

MIB = 1 << 20
ROOT = pathlib.Path(__file__).resolve().parent.parent
USER = pwd.getpwuid(os.getuid()).pw_name
FIGURES = ("file", "tree", "far", "commands", "steps")
# Packer's SSH knows nothing newer.
OLD = ["HostKeyAlgorithms +ssh-rsa", "PubkeyAcceptedAlgorithms +ssh-rsa"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A private sshd on loopback, with keys of its own."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        self.port = free_port()
        self.key = directory / "user"
        keygen = ["ssh-keygen", "-q", "-N", "", "-t"]
        # Both kinds of client can use these two.
        subprocess.run([*keygen, "rsa", "-b", "2048", "-m", "PEM", "-f", str(self.key)], check=True)
        subprocess.run([*keygen, "ed25519", "-f", str(directory / "host")], check=True)
        lines = [
            f"ListenAddress 127.0.0.1:{self.port}",
            f"HostKey {directory}/host",
            f"AuthorizedKeysFile {directory}/user.pub",
            f"PidFile {directory}/pid",
            "StrictModes no",
            "PermitRootLogin yes",
            "UsePAM no",
            # What a shell reads at its start is not what is measured here.
            f"SetEnv HOME={directory}",
            "Subsystem sftp internal-sftp",
            *OLD,
        ]
        (directory / "config").write_text("\n".join(lines) + "\n")
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        log = directory / "log"
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(directory / "config"), "-E", str(log)], **QUIET)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        else:
            sys.exit(f"sshd does not listen: {log.read_text()}")
        fingerprint = subprocess.run(["ssh-keygen", "-lf", f"{directory}/host.pub"], check=True, stdout=subprocess.PIPE, text=True)
        self.fingerprint = fingerprint.stdout.split()[1]
        self.known_hosts = directory / "known_hosts"
        self.knows(self.port)

    def knows(self, port):
        """OpenSSH's client knows the key at this port too."""
        key = " ".join((self.directory / "host.pub").read_text().split()[:2])
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {key}\n")

    def client(self, port=None):
        """OpenSSH's client with its options, up to the host."""
        options = [f"UserKnownHostsFile={self.known_hosts}", "BatchMode=yes", "IdentitiesOnly=yes", "LogLevel=ERROR"]
        options = [word for option in options for word in ("-o", option)]
        return ["ssh", "-F", "none", *options, "-i", str(self.key), "-p", str(port or self.port), f"{USER}@127.0.0.1"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


class SlowWay:
    """All that passes to the server and back takes its time."""

    def __init__(self, server, milliseconds):
        program = ROOT / "tests/support/delayproxy.py"
        command = ["/usr/bin/python3", str(program), str(server.port), str(milliseconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        server.knows(self.port)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Bench(benchlib.Figures):
    def __init__(self, kiln, runs):
        super().__init__(kiln, runs)
        self.server = Server(self.directory / "sshd")
        # In memory, where there is enough: the disk is not what is measured here, and a slow one hides all else.
        memory = pathlib.Path("/dev/shm")
        is_roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4096 * MIB
        self.ground = pathlib.Path(tempfile.mkdtemp(prefix="kiln-bench-", dir=memory if is_roomy else None))
        self.landing = self.ground / "landing"

    def close(self):
        self.server.stop()
        shutil.rmtree(self.ground, ignore_errors=True)
        super().close()

    def templates(self, name, provisioners, port=None):
        """The same build for both: JSON, which Packer 1.6.6 knows well."""
        source = {
            "type": "null",
            "ssh_host": "127.0.0.1",
            "ssh_port": port or self.server.port,
            "ssh_username": USER,
            "ssh_private_key_file": str(self.server.key),
        }
        pinned = source | {"ssh_host_key": [self.server.fingerprint]}
        paths = []
        for suffix, builder in (("kiln", pinned), ("packer", source)):
            path = self.directory / f"{name}-{suffix}.json"
            path.write_text(json.dumps({"builders": [builder], "provisioners": provisioners}))
            paths.append(str(path))
        return paths

    def build(self, template, events=False):
        return self.command(self.kiln, "build", *(["-json"] if events else []), template, events=events)

    def packer(self, template):
        return self.command("packer", "build", template)

    def shell(self, command):
        return self.command("sh", "-c", command)

    def fresh(self, run):
        """Runs it with an empty place to land in, and gives what is asked for once that is checked."""
        shutil.rmtree(self.landing, ignore_errors=True)
        self.landing.mkdir()
        result = run()
        landed = sum(entry.stat().st_size for entry in self.landing.rglob("*") if entry.is_file())
        if landed != self.expected:
            sys.exit(f"{landed} bytes landed, and {self.expected} should have: {result.command}")
        return result

    # Figures.

    def file(self):
        big = self.ground / "big"
        with big.open("wb") as file:
            for _ in range(1024):
                file.write(os.urandom(MIB))
        self.expected = big.stat().st_size
        target = f"{self.landing}/big"
        ours, theirs = self.templates("file", [{"type": "file", "source": str(big), "destination": target}])
        client = " ".join(self.server.client())
        mine, cats = self.alternating(
            lambda: self.fresh(lambda: self.build(ours)),
            lambda: self.fresh(lambda: self.shell(f"cat {big} | {client} 'cat > {target}'")),
        )
        self.report("1 GiB file, up", [run.wall for run in mine], [run.wall for run in cats], "s", 1.3, "cat | ssh")
        self.report("  CPU of the client", [run.cpu for run in mine], [run.cpu for run in cats], "s", 2.2, "cat | ssh")
        self.limit("  peak memory", [run.memory for run in mine], "MiB", 40)
        packers = [self.fresh(lambda: self.packer(theirs)) for _ in range(min(self.runs, 3))]
        self.report("1 GiB file, up", [run.wall for run in mine], [run.wall for run in packers], "s", 1 / 5, "packer")
        down, _ = self.templates("down", [{"type": "file", "direction": "download", "source": str(big), "destination": target}])
        mine, cats = self.alternating(
            lambda: self.fresh(lambda: self.build(down)),
            lambda: self.fresh(lambda: self.shell(f"{client} 'cat {big}' > {target}")),
        )
        self.report("1 GiB file, down", [run.wall for run in mine], [run.wall for run in cats], "s", 1.3, "ssh cat >")
        self.limit("  peak memory", [run.memory for run in mine], "MiB", 40)

    def many(self):
        """2,000 files, 12 MB."""
        tree = self.directory / "tree"
        if not tree.exists():
            for number in range(2000):
                folder = tree / f"d{number // 50}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"f{number}").write_bytes(os.urandom(6000))
        self.expected = 2000 * 6000
        return tree

    def tree(self):
        tree = self.many()
        step = {"type": "file", "source": f"{tree}/", "destination": str(self.landing)}
        ours, theirs = self.templates("tree", [step])
        client = " ".join(self.server.client())
        mine, tars, packers = self.alternating(
            lambda: self.fresh(lambda: self.build(ours)),
            lambda: self.fresh(lambda: self.shell(f"tar -C {tree} -c . | {client} 'tar -C {self.landing} -x'")),
            lambda: self.fresh(lambda: self.packer(theirs)),
        )
        walls = [[run.wall for run in runs] for runs in (mine, tars, packers)]
        self.report("2,000 files, up", walls[0], walls[1], "s", 1.2, "tar | ssh")
        self.report("2,000 files, up", walls[0], walls[2], "s", 1.0, "packer")

    def far(self):
        tree = self.many()
        way = SlowWay(self.server, 15)
        try:
            step = {"type": "file", "source": f"{tree}/", "destination": str(self.landing)}
            ours, _ = self.templates("far", [step], way.port)
            client = " ".join(self.server.client(way.port))
            mine, tars = self.alternating(
                lambda: self.fresh(lambda: self.build(ours, events=True)),
                lambda: self.fresh(lambda: self.shell(f"tar -C {tree} -c . | {client} 'tar -C {self.landing} -x'")),
            )
            self.limit("2,000 files over 30 ms: the step", [run.step_seconds()[0] for run in mine], "s", 1.0)
            self.report("  the whole build", [run.wall for run in mine], [run.wall for run in tars], "s", 1.2, "tar | ssh")
        finally:
            way.stop()

    def commands(self):
        """Commands over one session: those that kiln's steps consist of, by a program around the same communicator, and steps."""
        measure = pathlib.Path(self.kiln).parent / "examples" / "measure"
        build = ["cargo", "build", "--release", "--locked", "-p", "kiln-ssh", "--example", "measure"]
        subprocess.run([*build, "--target-dir", str(measure.parent.parent.parent)], cwd=ROOT, check=True)
        ours, _ = self.templates("commands", [{"type": "shell", "inline": ["true"]}] * 1000)
        control = self.directory / "control"
        client = self.server.client()
        master = subprocess.Popen([*client[:-1], "-M", "-N", "-S", str(control), client[-1]], **QUIET)
        for _ in range(200):
            if control.exists():
                break
            time.sleep(0.02)
        loop = f"for i in $(seq 1000); do ssh -F none -S {control} {client[-1]} true || exit 1; done"
        tiny = [str(measure), f"127.0.0.1:{self.server.port}", USER, str(self.server.key), "run", "1000"]
        try:
            alone, together, steps, masters = self.alternating(
                lambda: self.command(*tiny).wall,
                lambda: self.command(*tiny, "8").wall,
                lambda: self.build(ours).wall,
                lambda: self.shell(loop).wall,
            )
        finally:
            master.terminate()
            master.wait()
        self.report("1,000 commands in turn", alone, masters, "s", 1 / 3, "ControlMaster")
        self.report("1,000 commands, eight at once", together, masters, "s", 1 / 3, "ControlMaster")
        self.report("1,000 shell steps of one command each", steps, masters, "s", 0.9, "ControlMaster")

    def steps(self):
        steps = [{"type": "shell", "inline": [f"echo step {number}"]} for number in range(10)]
        ours, theirs = self.templates("steps", steps)
        mine, packers = self.alternating(lambda: self.build(ours).wall, lambda: self.packer(theirs).wall)
        self.report("10 shell steps", mine, packers, "s", 1 / 3, "packer")


if __name__ == "__main__":
    benchlib.main(Bench, FIGURES, __doc__)
