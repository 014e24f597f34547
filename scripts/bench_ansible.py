#!/usr/bin/python3
"""Figures of playbooks: 30 small tasks, with kiln and with Ansible alone, on one machine, in one run; medians, as ratios.

    bench_ansible.py KILN [RUNS] [FIGURE...]

Figures: docker, oci (both against Ansible's own connection to containers), ssh (against plain `ansible-playbook` with
pipelining); all of them where none is named. Needs what `install-dependencies.sh tests` installs, a Docker engine with
kiln-test-python:bookworm, and OpenSSH. What counts is the time of the step, so that machines start and end outside of it.
Exits with 1 when a figure misses its target. Runs alternate.
"""

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

import benchlib
from bench_ssh import USER, Server
from benchlib import QUIET

FIGURES = ("docker", "oci", "ssh")
IMAGE = "kiln-test-python:bookworm"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
PROGRAMS = CACHE / "kiln-test-ansible"
PEER = "kiln-bench-ansible"


def tasks(directory):
    """Thirty tasks as roles have them: commands, files, directories."""
    for index in range(10):
        yield {"name": f"command {index}", "command": "true"}
        yield {"name": f"copy {index}", "copy": {"content": f"{index}\n", "dest": f"{directory}/{index}.conf", "mode": "0644"}}
        yield {"name": f"directory {index}", "file": {"path": f"{directory}/{index}", "state": "directory"}}


def container_connection():
    """Ansible's own connection to containers, from the collection that it comes in."""
    place = PROGRAMS / "collections"
    if (place / "ansible_collections/community/docker").is_dir():
        return place
    print("fetching the collection community.docker", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        pip = [PROGRAMS / "bin/pip", "download", "--quiet", "--no-deps", "--dest", directory, "ansible==12.*"]
        subprocess.run(pip, check=True)
        wheel = next(pathlib.Path(directory).glob("ansible-*.whl"))
        wanted = ("ansible_collections/community/docker/", "ansible_collections/community/library_inventory_filtering_v1/")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place, [name for name in archive.namelist() if name.startswith(wanted)])
    return place


class Figures(benchlib.Figures):
    """Figures of one kiln against Ansible alone."""

    def __init__(self, kiln, runs):
        super().__init__(kiln, runs)
        if not (PROGRAMS / "bin/ansible-playbook").is_file():
            sys.exit("there is no Ansible: run scripts/install-dependencies.sh tests")
        self.environment["PATH"] = f"{PROGRAMS}/bin:{os.environ['PATH']}"
        self.environment["ANSIBLE_PYTHON_INTERPRETER"] = "/usr/bin/python3"
        self.environment["ANSIBLE_HOME"] = str(self.directory / "ansible")
        self.numbers = itertools.count()

    def playbook(self, directory):
        play = {"name": "small tasks", "hosts": "all", "gather_facts": False, "tasks": list(tasks(directory))}
        path = self.directory / "play.yml"
        path.write_text(json.dumps([play]))
        return path

    def kiln_step(self, source):
        """Seconds of the step with the playbook."""
        step = {"type": "ansible", "playbook_file": "play.yml"}
        (self.directory / "bench.json").write_text(json.dumps({"builders": [source], "provisioners": [step]}))
        run = self.command(self.kiln, "build", "--no-cache", "-json", "bench.json", events=True)
        assert run.count("task") == 30, run.events
        return run.step_seconds()[-1]

    def plain(self, inventory, *arguments, **environment):
        start = time.monotonic()
        command = ["ansible-playbook", "-i", inventory, *arguments, "play.yml"]
        subprocess.run(command, env=self.environment | environment, cwd=self.directory, check=True, **QUIET)
        return time.monotonic() - start

    def container(self):
        """One run of Ansible alone against a new container."""
        subprocess.run(["docker", "run", "--detach", "--rm", "--name", PEER, IMAGE, "sleep", "600"], check=True, **QUIET)
        try:
            collections = {"ANSIBLE_COLLECTIONS_PATH": str(container_connection())}
            return self.plain(f"{PEER},", "--connection", "community.docker.docker", **collections)
        finally:
            subprocess.run(["docker", "rm", "--force", PEER], check=True, **QUIET)

    def against_containers(self, what, source):
        self.playbook("/srv")
        ours, theirs = self.alternating(lambda: self.kiln_step(source), self.container)
        self.report(what, ours, theirs, "s", 1.1, "ansible, docker")

    def docker(self):
        self.against_containers("30 tasks in a container", {"type": "docker", "image": IMAGE, "pull": False, "discard": True})

    def oci(self):
        source = {"type": "oci", "from": {"docker_daemon": IMAGE}, "discard": True}
        self.against_containers("30 tasks in a sandbox", source)

    def ssh(self):
        server = Server(self.directory / "sshd")
        made = self.directory / "made"
        source = {
            "type": "null",
            "ssh_host": "127.0.0.1",
            "ssh_port": server.port,
            "ssh_username": USER,
            "ssh_private_key_file": str(server.key),
            "ssh_host_key": [server.fingerprint],
        }
        options = f"-o UserKnownHostsFile={server.known_hosts} -i {server.key}"
        inventory = self.directory / "hosts"
        inventory.write_text(f"default ansible_host=127.0.0.1 ansible_port={server.port} ansible_user={USER}\n")

        def fresh(run):
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            return run()

        def plain():
            # A machine that was just made has no shared connection yet.
            control = {"ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/kiln-bench-{os.getpid()}-{next(self.numbers)}"}
            try:
                return self.plain(str(inventory), "--ssh-common-args", options, ANSIBLE_PIPELINING="1", **control)
            finally:
                shutil.rmtree(control["ANSIBLE_SSH_CONTROL_PATH_DIR"], ignore_errors=True)

        self.playbook(made)
        try:
            ours, theirs = self.alternating(lambda: fresh(lambda: self.kiln_step(source)), lambda: fresh(plain))
        finally:
            server.stop()
        self.report("30 tasks by SSH", ours, theirs, "s", 1.05, "ansible, ssh")


if __name__ == "__main__":
    benchlib.main(Figures, FIGURES, __doc__)
