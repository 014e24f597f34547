#!/usr/bin/python3
"""Figures of kiln against Debian's packer on the same templates, the same machine, in one run; medians, as ratios.

    bench.py KILN [RUNS]

Needs a Docker engine with debian:bookworm (services.sh starts one) and packer 1.6.6. Exits with 1 when a figure misses its
target. Runs alternate, so that a machine whose speed drifts does not favour one side.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUILDER = {"type": "docker", "image": "debian:bookworm", "pull": False}
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}


class Bench:
    def __init__(self, kiln, runs):
        self.kiln = str(pathlib.Path(kiln).resolve())
        self.runs = runs
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kiln-bench-"))
        self.environment = dict(
            os.environ,
            CHECKPOINT_DISABLE="1",
            PACKER_NO_COLOR="1",
            KILN_STATE_DIR=str(self.directory / "state"),
        )
        self.missed = 0

    def template(self, name, builders, provisioners):
        path = self.directory / name
        path.write_text(json.dumps({"builders": builders, "provisioners": provisioners}))
        return str(path)

    def measure(self, command):
        """Wall seconds and peak memory in MiB of a command's largest process."""
        start = time.monotonic()
        process = subprocess.Popen(command, env=self.environment, cwd=self.directory, **QUIET)
        message = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{command} failed: {message.decode()}")
        return time.monotonic() - start, usage.ru_maxrss / 1024

    def pairs(self, ours, theirs):
        """Both commands in turn, after one warm-up each: two lists of (seconds, MiB)."""
        self.measure(ours), self.measure(theirs)
        results = [(self.measure(ours), self.measure(theirs)) for _ in range(self.runs)]
        return [pair[0] for pair in results], [pair[1] for pair in results]

    def report(self, what, ours, theirs, unit, target, peer="packer"):
        ours, theirs = statistics.median(ours), statistics.median(theirs)
        ratio = ours / theirs
        verdict = "ok" if ratio <= target else "MISSED"
        self.missed += verdict == "MISSED"
        print(
            f"{what:<44} kiln {ours:8.3f} {unit:<3}  {peer} {theirs:8.3f} {unit:<3}  ratio {ratio:6.3f}  target {target:.3f}  {verdict}",
            flush=True,
        )

    def remove_untagged(self, before):
        after = set(images())
        if after - before:
            subprocess.run(["docker", "rmi", "--force", *(after - before)], check=False, **QUIET)

    def builds(self):
        before = set(images())
        steps = [{"type": "shell", "inline": [f"echo step {number}"]} for number in range(20)]
        twenty = self.template("twenty.json", [BUILDER | {"commit": True}], steps)
        ours, theirs = self.pairs([self.kiln, "build", twenty], ["packer", "build", twenty])
        self.report("20 shell steps and a commit, wall", seconds(ours), seconds(theirs), "s", 1 / 5)
        self.report("20 shell steps and a commit, peak memory", mebibytes(ours), mebibytes(theirs), "MiB", 1 / 2)
        eight = self.template(
            "eight.json", [BUILDER | {"commit": True, "name": f"b{number}"} for number in range(8)], steps[:5]
        )
        ours, theirs = self.pairs([self.kiln, "build", eight], ["packer", "build", eight])
        self.report("8 builds in parallel, 5 steps each, wall", seconds(ours), seconds(theirs), "s", 1 / 3)
        self.remove_untagged(before)

    def validate(self):
        small = self.template("small.json", [BUILDER | {"commit": True}], [{"type": "shell", "inline": ["true"]}])
        ours, theirs = self.pairs([self.kiln, "validate", small], ["packer", "validate", small])
        self.report("validate of a small template, wall", seconds(ours), seconds(theirs), "s", 1 / 10)

    def files(self):
        big = self.directory / "big"
        with big.open("wb") as file:
            block = os.urandom(1024 * 1024)
            for _ in range(1024):
                file.write(block)
        many = self.directory / "many"
        many.mkdir()
        for number in range(5000):
            (many / f"file-{number}").write_bytes(os.urandom(2000))
        for what, path in (("1 GiB file", big), ("5,000 small files", many)):
            steps = [{"type": "file", "source": str(path), "destination": "/upload"}]
            template = self.template("files.json", [BUILDER | {"discard": True}], steps)
            self.upload_with_kiln(template), self.upload_with_docker(path)
            pairs = [(self.upload_with_kiln(template), self.upload_with_docker(path)) for _ in range(self.runs)]
            self.report(
                f"file provisioner, {what}", [a for a, _ in pairs], [b for _, b in pairs], "s", 1.0, "docker cp"
            )

    def upload_with_kiln(self, template):
        command = [self.kiln, "build", "-json", template]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        events = [json.loads(line) for line in result.stdout.splitlines()]
        return next(event["seconds"] for event in events if event["event"] == "step-finished")

    def upload_with_docker(self, path):
        command = ["docker", "run", "-d", "-t", "--label", "kiln.bench", "debian:bookworm", "/bin/sh"]
        container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        try:
            start = time.monotonic()
            subprocess.run(["docker", "cp", str(path), f"{container}:/upload"], check=True, **QUIET)
            return time.monotonic() - start
        finally:
            subprocess.run(["docker", "rm", "-f", container], check=True, **QUIET)


def seconds(results):
    return [result[0] for result in results]


def mebibytes(results):
    return [result[1] for result in results]


def images():
    command = ["docker", "images", "--quiet", "--no-trunc", "--filter", "dangling=true"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    bench = Bench(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
    print(f"medians of {bench.runs} runs; ratio = kiln / peer, smaller is better")
    try:
        bench.validate()
        bench.builds()
        bench.files()
    finally:
        shutil.rmtree(bench.directory)
    sys.exit(1 if bench.missed else 0)


if __name__ == "__main__":
    main()
