#!/usr/bin/python3
"""Figures of the template language: bench_language.py KILN [RUNS]

`validate` of a template with 250, 500 and 1,000 sources and five times as many variables and locals; `fmt` of 2.5, 5 and 10 MiB of
HCL, against Debian's packer 1.6.6 where it is installed. Exits with 1 when a figure misses its target. Needs no engine.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
MEBIBYTE = 1024 * 1024
# Time per unit of work may grow by this between the smallest and the largest input and still count as linear.
GROWTH = 1.5


def large_template(sources):
    """Half of the names are variables, half locals; each local depends on others, each source on both."""
    names = sources * 5 // 2
    lines = [f'variable "v{n}" {{\n  type    = string\n  default = "value-{n}"\n}}\n' for n in range(names)]
    lines.append("locals {")
    for n in range(names):
        before = f"local.l{n - 1}" if n % 10 else f"var.v{n}"
        lines.append(f'  l{n} = "${{upper(var.v{n})}}-${{length({before})}}"')
    lines.append("}\n")
    for n in range(sources):
        lines.append(
            f'source "docker" "s{n}" {{\n  image   = "debian:${{var.v{n}}}"\n  commit  = true\n'
            f'  changes = ["ENV NAME=${{local.l{n}}}"]\n}}\n'
        )
    lines += ["build {", "  sources = ["] + [f'    "source.docker.s{n}",' for n in range(sources)] + ["  ]\n"]
    lines.append('  provisioner "shell" {\n    inline = ["echo ${source.name} ${local.l7}"]\n  }')
    lines.append('  post-processor "docker-tag" {\n    repository = "group/${source.name}"\n  }\n}\n')
    return "\n".join(lines)


def unformatted(size):
    block = large_template(50).replace("  ", " ")
    return block * (size // len(block))


def measure(command, directory):
    """Wall seconds and peak memory in MiB."""
    environment = dict(os.environ, CHECKPOINT_DISABLE="1", PACKER_NO_COLOR="1", KILN_STATE_DIR=str(directory / "state"))
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd=directory, **QUIET)
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        sys.exit(f"{command} failed: {message.decode()}")
    return time.monotonic() - start, usage.ru_maxrss / 1024


def median(command, directory, runs):
    results = [measure(command, directory) for _ in range(runs)]
    return statistics.median(result[0] for result in results), statistics.median(result[1] for result in results)


class Report:
    def __init__(self):
        self.missed = 0

    def line(self, what, value, unit, target):
        verdict = "ok" if value <= target else "MISSED"
        self.missed += verdict == "MISSED"
        print(f"{what:<52} {value:8.3f} {unit:<6} target {target:.3f}  {verdict}", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    kiln, runs = str(pathlib.Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kiln-bench-"))
    report = Report()
    try:
        times = {}
        for sources in (250, 500, 1000):
            path = directory / f"large{sources}.pkr.hcl"
            path.write_text(large_template(sources))
            times[sources], memory = median([kiln, "validate", str(path)], directory, runs)
            name = f"validate, {sources} sources, {sources * 5} variables and locals"
            report.line(f"{name}, wall", times[sources], "s", 0.5)
            report.line(f"{name}, peak memory", memory, "MiB", 100)
        report.line("growth per source, 1,000 against 250", times[1000] / 4 / times[250], "x", GROWTH)
        for size in (10, 20, 40):
            path = directory / f"large{size}.pkr.hcl"
            path.write_text(unformatted(size * MEBIBYTE // 4))
            times[size], memory = median([kiln, "fmt", "-check", str(path)], directory, runs)
            name = f"fmt of {size / 4:g} MiB"
            report.line(f"{name}, wall", times[size], "s", 1.0)
            print(f"{name + ', peak memory':<52} {memory:8.3f} MiB", flush=True)
            if shutil.which("packer") and size == 10:
                theirs, _ = median(["packer", "fmt", "-check", str(path)], directory, runs)
                report.line(f"{name}, kiln / packer", times[size] / theirs, "x", 1.0)
        report.line("growth per byte, 10 MiB against 2.5 MiB", times[40] / 4 / times[10], "x", GROWTH)
    finally:
        shutil.rmtree(directory)
    sys.exit(1 if report.missed else 0)


if __name__ == "__main__":
    main()
