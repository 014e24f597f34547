"""What the scripts with figures share: commands that are measured, and figures that are told and held against their targets."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
TICK = os.sysconf("SC_CLK_TCK")


class Run:
    """A command that ended: wall and CPU seconds, peak memory in MiB of its largest process, and events as they came."""

    def __init__(self, command, environment, directory, events=False):
        start = time.monotonic()
        output = subprocess.PIPE if events else subprocess.DEVNULL
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            )
            self.events, self.marks = [], []
            for line in process.stdout or ():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] in ("step-finished", "output"):
                    self.marks.append((time.monotonic(), cpu_of(process.pid)))
            _, status, usage = os.wait4(process.pid, 0)
            self.end = time.monotonic()
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                errors.seek(0)
                shown = [event.get("text") or event.get("line") for event in self.events if "text" in event or "line" in event]
                sys.exit(f"{command} failed: {errors.read().decode()} {shown[-8:]}")
        self.command = command
        self.wall = self.end - start
        self.cpu = usage.ru_utime + usage.ru_stime
        self.memory = usage.ru_maxrss / 1024

    def after_last_step(self):
        """Wall and CPU seconds from the end of the last step on."""
        when, cpu = self.marks[-1]
        return self.end - when, self.cpu - cpu

    def step_seconds(self):
        return [event["seconds"] for event in self.events if event["event"] == "step-finished"]

    def count(self, kind):
        return sum(event["event"] == kind for event in self.events)


def cpu_of(pid):
    """CPU seconds of a process and of those it has waited for."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICK


def busy():
    """Seconds that the cores of this machine were busy since it started, whoever kept them so."""
    user, nice, system, idle, waiting, *rest = map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + sum(rest)) / TICK


class Figures:
    """Figures of one kiln: a directory for templates, a state and a cache of its own, and how many targets were missed."""

    def __init__(self, kiln, runs):
        self.kiln = str(pathlib.Path(kiln).resolve())
        self.runs = runs
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kiln-bench-"))
        self.environment = dict(
            os.environ,
            CHECKPOINT_DISABLE="1",
            PACKER_NO_COLOR="1",
            KILN_STATE_DIR=str(self.directory / "state"),
            KILN_CACHE_DIR=str(self.directory / "cache"),
        )
        self.missed = 0

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *command, events=False):
        return Run(list(command), self.environment, self.directory, events)

    def alternating(self, *sides):
        """Each side once to warm up, then all in turn: a list of results for each."""

        def alone(side):
            # What the one before left to be written is not its own work.
            os.sync()
            return side()

        for side in sides:
            alone(side)
        results = [[alone(side) for side in sides] for _ in range(self.runs)]
        return [[result[index] for result in results] for index in range(len(sides))]

    # Telling.

    def report(self, what, ours, theirs, unit, target, peer):
        ours, theirs = statistics.median(ours), statistics.median(theirs)
        ratio = ours / theirs
        verdict = self.verdict(ratio <= target)
        print(
            f"{what:<44} kiln {ours:8.3f} {unit:<3}  {peer} {theirs:8.3f} {unit:<3}  ratio {ratio:6.3f}  target {target:.3f}  {verdict}",
            flush=True,
        )

    def limit(self, what, values, unit, most):
        value = statistics.median(values)
        best = min(values)
        print(
            f"{what:<44} kiln {value:8.3f} {unit:<3}  best {best:.3f}  at most {most:.3f}  {self.verdict(value <= most)}", flush=True
        )

    def least(self, what, values, unit, least):
        value = statistics.median(values)
        print(
            f"{what:<44} kiln {value:8.3f} {unit:<3}  best {max(values):.3f}  at least {least:.3f}  {self.verdict(value >= least)}",
            flush=True,
        )

    def verdict(self, is_met):
        self.missed += not is_met
        return "ok" if is_met else "MISSED"


def main(figures_of, names, usage):
    """Runs the figures that the command line names, or all: `KILN [RUNS] [FIGURE...]`. `figures_of` makes the `Figures`."""
    if len(sys.argv) < 2:
        sys.exit(usage)
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    chosen = sys.argv[3:] or names
    if unknown := set(chosen) - set(names):
        sys.exit(f"no such figures: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    figures = figures_of(sys.argv[1], runs)
    print(f"medians of {runs} runs; ratio = kiln / peer, smaller is better")
    busy = os.getloadavg()[0] / os.cpu_count()
    if busy > 0.5:
        # A step of kiln's is work alone, one of its peers mostly waits: other work makes these ratios worse.
        print(f"this machine is busy ({busy:.1f} waiting for each processor): figures of a few milliseconds say little", flush=True)
    try:
        for name in chosen:
            getattr(figures, name)()
    finally:
        figures.close()
    sys.exit(1 if figures.missed else 0)
