#!/usr/bin/python3
"""Figures of the `oci` builder and of the registry client against their peers, on one machine, in one run; medians, as ratios.

    bench_oci.py KILN [RUNS] [FIGURE...]

Figures: steps, start, rebuild, graph, levels, seal, push, pull, apt; all of them where none is named. Needs root, packer 1.6.6, skopeo,
docker-registry and a Docker engine with debian:bookworm (services.sh starts one). A registry of its own is started and ended
here. Exits with 1 when a figure misses its target. Runs alternate, so that a machine whose speed drifts does not favour one side.
"""

import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import benchlib
from benchlib import QUIET, Run

MIB = 1 << 20
BASE = "debian:bookworm"
STEPS = [f'provisioner "shell" {{ inline = ["echo step {number}"] }}' for number in range(20)]


class Registry:
    """docker-registry on loopback, without logins."""

    def __init__(self, directory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"
        self.directory = directory
        directory.mkdir(exist_ok=True)
        root = directory / "registry"
        config = directory / "registry.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: '{self.host}'}}\n"
        )
        self.process = subprocess.Popen(["docker-registry", "serve", str(config)], **QUIET | {"stderr": subprocess.DEVNULL})
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("docker-registry does not answer")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Bench(benchlib.Figures):
    def __init__(self, kiln, runs):
        super().__init__(kiln, runs)
        self.registry = Registry(self.directory)
        self.images = []

    def close(self):
        self.registry.stop()
        if self.images:
            subprocess.run(["docker", "rmi", "--force", *self.images], check=False, **QUIET)
        super().close()

    def template(self, name, source, steps, kind="oci"):
        body = "\n".join(f"  {key} = {value}" for key, value in source.items())
        text = f'source "{kind}" "b" {{\n{body}\n}}\nbuild {{\n  sources = ["{kind}.b"]\n' + "\n".join(steps) + "\n}\n"
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def build(self, template, *options, cache=None, events=False):
        environment = self.environment | ({"KILN_CACHE_DIR": str(cache)} if cache else {})
        options = [*options, "-json"] if events else options
        return Run([self.kiln, "build", *options, template], environment, self.directory, events)

    def docker(self, *command):
        result = subprocess.run(["docker", *command], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return result.stdout.strip()

    def base(self):
        """The base image under a name in the store."""
        if not (self.directory / "base.pkr.hcl").exists():
            source = {"from": f'{{ docker_daemon = "{BASE}" }}', "tags": '["base:bench"]'}
            self.build(self.template("base.pkr.hcl", source, []))
        return '{ local = "base:bench" }'

    # Figures.

    def steps(self):
        ours = self.template("twenty.pkr.hcl", {"from": self.base()}, STEPS)
        docker = {"image": f'"{BASE}"', "pull": "false", "commit": "true"}
        theirs = self.template("twenty-docker.pkr.hcl", docker, STEPS, "docker")
        before = set(self.dangling())
        oci, engine, packer = self.alternating(
            lambda: self.build(ours, "--no-cache").wall,
            lambda: self.build(theirs, "--no-cache").wall,
            lambda: self.command("packer", "build", theirs).wall,
        )
        self.images += set(self.dangling()) - before
        self.report("20 shell steps and a sealed image", oci, packer, "s", 1 / 50, "packer docker")
        self.report("20 shell steps and a sealed image", oci, engine, "s", 1 / 10, "kiln docker")

    def start(self):
        script = self.directory / "true.sh"
        script.write_text("#!/bin/sh -e\ntrue\n")
        script.chmod(0o755)
        one = '  provisioner "shell" { inline = ["true"] }'
        many = f'  provisioner "shell" {{ scripts = [{", ".join([json.dumps(str(script))] * 21)}] }}'
        template = self.template("start.pkr.hcl", {"from": self.base(), "discard": "true"}, [one, one, many])
        runs = [self.build(template, "--no-cache", events=True) for _ in range(self.runs + 1)][1:]
        seconds = [run.step_seconds() for run in runs]
        plain = statistics.median(1000 * self.command(str(script)).wall for _ in range(20))
        # A step after a kept one begins on a new sandbox; the further scripts of one step run in the same.
        self.limit("sandbox's start to the end of its first step", [1000 * steps[1] for steps in seconds], "ms", 15 + plain)
        further = [1000 * (steps[2] - steps[1]) / 20 - plain for steps in seconds]
        self.limit("one more script, over the same on the host", further, "ms", 4)

    def rebuild(self):
        steps = STEPS[:19] + ['provisioner "shell" { inline = ["sleep 3"] }']
        template = self.template("rebuild.pkr.hcl", {"from": self.base(), "tags": '["rebuild:bench"]'}, steps)
        self.build(template)
        unchanged = [self.build(template).wall for _ in range(self.runs)]
        self.limit("20 steps, nothing changed", unchanged, "s", 0.1)
        changed = []
        for number in range(self.runs):
            last = f'provisioner "shell" {{ inline = ["echo {number} {time.time()}"] }}'
            template = self.template("rebuild.pkr.hcl", {"from": self.base()}, STEPS[:19] + [last])
            run = self.build(template, events=True)
            if number > 0 and (run.count("step-cached"), len(run.step_seconds())) != (19, 1):
                sys.exit(f"more than the changed step ran: {run.events}")
            changed.append(run.wall)
        self.limit("20 steps, the last one changed", changed, "s", 0.25)

    def tree(self):
        """15,000 files, 508 MB: programs and texts of this machine, over and over."""
        tree = self.directory / "tree"
        if tree.exists():
            return tree
        files = [path for path in pathlib.Path("/usr/lib").rglob("*") if path.is_file() and not path.is_symlink()]
        sizes = sorted((path.stat().st_size, path) for path in files)
        small = [path for size, path in sizes if 0 < size < 16000]
        large = [path for size, path in sizes if 60000 < size < MIB]
        size = count = 0
        while count < 15000:
            # The mean is to be 33.9 kB.
            some = large if size < count * 33900 else small
            path = some[(count * 7919) % len(some)]
            folder = tree / f"d{count // 100}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / f"f{count}")
            size, count = size + path.stat().st_size, count + 1
        print(f"the change: {count} files, {size / 1e6:.0f} MB", flush=True)
        return tree

    def graph(self):
        """200 builds, most of them built upon another one, in a tree of four children each."""
        count, marks = 200, iter(range(1000))
        parents = {number: (number - 1) // 4 for number in range(1, count)}
        sources = [
            f'source "oci" "n{number}" {{\n  from = {f"artifact.n{parents[number]}.image" if number else self.base()}\n}}\n'
            for number in range(count)
        ]
        names = ", ".join(f'"oci.n{number}"' for number in range(count))
        path = self.directory / "graph.pkr.hcl"

        def write(mark):
            step = f'provisioner "shell" {{\n    inline = ["echo {mark} ${{source.name}} >/mark"]\n  }}'
            path.write_text("".join(sources) + f"build {{\n  sources = [{names}]\n  {step}\n}}\n")
            return str(path)

        new = [self.build(write(next(marks))).wall for _ in range(self.runs)]
        self.limit("200 builds, a step each: one build", [wall / count * 1000 for wall in new], "ms", 20)
        again = [self.build(str(path)).wall for _ in range(self.runs)]
        self.limit("  nothing changed: scheduling one build", [wall / count * 1000 for wall in again], "ms", 5)
        plans = [self.command(self.kiln, "plan", str(path)).wall for _ in range(self.runs)]
        self.limit("  their plan", plans, "s", 0.5)

    def levels(self):
        """125 builds in four levels, whose steps only compute, against the same loops without anything around them."""
        levels, sources, number, above = (1, 4, 24, 96), [], 0, []
        for width in levels:
            names = [f"l{number + offset}" for offset in range(width)]
            for index, name in enumerate(names):
                parent = f"artifact.{above[index % len(above)]}.image" if above else self.base()
                sources.append((name, f'source "oci" "{name}" {{\n  from = {parent}\n}}\n'))
            number, above = number + width, names
        names = ", ".join(f'"oci.{name}"' for name, _ in sources)
        path, marks = self.directory / "levels.pkr.hcl", iter(range(1000))

        def loop(mark):
            return f"i={mark}; while [ $i -lt 300000 ]; do i=$((i + 1)); done"

        def ours():
            # With the name in it: builds that do the same are done once.
            step = f'provisioner "shell" {{\n    inline = ["{loop(next(marks))} # ${{source.name}}"]\n  }}'
            path.write_text("".join(text for _, text in sources) + f"build {{\n  sources = [{names}]\n  {step}\n}}\n")
            before = benchlib.busy()
            wall = self.build(str(path)).wall
            return wall, (benchlib.busy() - before) / (wall * os.cpu_count()) * 100

        def theirs():
            command = f"seq {number} | xargs -P {os.cpu_count()} -I@ sh -c '{loop(0)}'"
            return self.command("sh", "-c", command).wall

        built, looped = self.alternating(ours, theirs)
        what = f"{number} builds in {len(levels)} levels that compute"
        self.report(what, [run[0] for run in built], looped, "s", 1.15, f"xargs -P{os.cpu_count()}")
        self.least("  share of the cores that was busy", [run[1] for run in built], "%", 90)

    def seal(self):
        tree = self.tree()
        number = iter(range(1000))
        repository = f"{self.registry.host}/seal"

        def copy():
            return f"cp -a /mnt /srv/tree && echo {time.time()} {next(number)} >/srv/tree/mark"

        def ours():
            source = {"from": self.base(), "volumes": f'{{ "{tree}" = "/mnt:ro" }}', "push": f'["{repository}/kiln:1"]'}
            step = f'provisioner "shell" {{ inline = ["{copy()}"] }}'
            run = self.build(self.template("seal.pkr.hcl", source, [step]), events=True)
            return (*run.after_last_step(), run.memory)

        def theirs():
            name = f"{repository}/docker:1"
            self.docker("run", "--name", "kiln-bench-seal", "-v", f"{tree}:/mnt:ro", BASE, "sh", "-c", copy())
            start = time.monotonic()
            self.docker("commit", "kiln-bench-seal", name)
            self.docker("push", name)
            taken = time.monotonic() - start
            self.docker("rm", "kiln-bench-seal")
            self.docker("rmi", name)
            return taken

        def alone():
            command = f"tar -C {tree} -c . | {PIGZ} >/dev/null"
            return self.command("sh", "-c", command).cpu

        pushed, dockers, compressed = self.alternating(ours, theirs, alone)
        self.report("508 MB in 15,000 files: seal and push", [run[0] for run in pushed], dockers, "s", 1 / 3, "docker")
        self.report("  CPU of it", [run[1] for run in pushed], compressed, "s", 1.3, "tar | pigz -1")
        self.limit("  peak memory", [run[2] for run in pushed], "MiB", 100)

    def push(self):
        big = self.directory / "big"
        with big.open("wb") as file:
            for _ in range(1024):
                file.write(os.urandom(MIB))
        layout = self.directory / "layout"
        source = {"from": '"scratch"', "compression": '"none"'}
        step = [f'provisioner "file" {{\n    source = "{big}"\n    destination = "/big"\n  }}']
        self.build(self.template("push.pkr.hcl", source | {"oci_layout": f'"{layout}"'}, step))
        number = iter(range(1000))

        def fresh(run):
            # skopeo remembers which blobs a registry has.
            registry = Registry(self.directory / f"push-{next(number)}")
            try:
                return run(f"{registry.host}/push/big:1")
            finally:
                registry.stop()
                shutil.rmtree(registry.directory)

        def ours(name):
            run = self.build(self.template("push.pkr.hcl", source | {"push": f'["{name}"]'}, step))
            return run.wall, run.memory

        def theirs(name):
            return self.command("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{name}").wall

        mine, skopeos = self.alternating(lambda: fresh(ours), lambda: fresh(theirs))
        self.report("1 GiB blob: push", [run[0] for run in mine], skopeos, "s", 0.8, "skopeo copy")
        self.limit("  peak memory", [run[1] for run in mine], "MiB", 64)

    def pull(self):
        name = f"{self.registry.host}/pull/base:1"
        container = self.docker("create", BASE, f"kiln-bench-{time.time()}")
        archive = self.directory / "base.tar"
        self.docker("export", "--output", str(archive), container)
        self.docker("rm", container)
        # Another layer than that of the base image, so that the engine has to bring it.
        (self.directory / "unique").write_text(str(time.time()))
        subprocess.run(["tar", "-rf", str(archive), "-C", str(self.directory), "unique"], check=True)
        self.docker("import", str(archive), name)
        self.docker("push", name)
        self.docker("rmi", name)
        template = self.template("pull.pkr.hcl", {"from": f'"{name}"', "discard": "true"}, [])
        number = iter(range(1000))

        def ours():
            # A store of its own each time; what tidies it up afterwards may still be at work.
            return self.build(template, cache=self.directory / f"pull-cache-{next(number)}").wall

        def theirs():
            start = time.monotonic()
            self.docker("pull", "--quiet", name)
            taken = time.monotonic() - start
            self.docker("rmi", name)
            return taken

        mine, dockers = self.alternating(ours, theirs)
        self.report("170 MB base: pull and unpack", mine, dockers, "s", 0.8, "docker pull")

    def apt(self):
        debs = self.directory / "debs"
        (debs / "partial").mkdir(parents=True)
        fetch = "apt-get -q update && apt-get -qy --no-install-recommends --download-only install supervisor python3-yaml vim-tiny less"
        volumes = ["-v", f"{debs}:/var/cache/apt/archives"]
        fetched = subprocess.run(["docker", "run", "--rm", "--network", "host", *volumes, BASE, "sh", "-c", fetch], **QUIET)
        packages = len(list(debs.glob("*.deb")))
        if fetched.returncode != 0 or packages < 20:
            print(f"apt-get install: skipped, {packages} packages could be fetched: {fetched.stderr.decode()[-300:]}")
            self.missed += 1
            return
        install = "DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends /debs/*.deb"
        source = {"from": self.base(), "discard": "true", "volumes": f'{{ "{debs}" = "/debs:ro" }}'}
        template = self.template("apt.pkr.hcl", source, [f'provisioner "shell" {{ inline = ["{install}"] }}'])
        shell = ["-v", f"{debs}:/debs:ro", BASE, "sh", "-c", install]
        mine, dockers = self.alternating(
            lambda: self.build(template, "--no-cache").wall,
            lambda: self.command("docker", "run", "--rm", *shell).wall,
        )
        self.report(f"apt-get install of {packages} packages", mine, dockers, "s", 1.0, "docker run")

    def dangling(self):
        return self.docker("images", "--quiet", "--no-trunc", "--filter", "dangling=true").split()


PIGZ = "pigz -1 -p2"
FIGURES = ("steps", "start", "rebuild", "graph", "levels", "seal", "push", "pull", "apt")


if __name__ == "__main__":
    benchlib.main(Bench, FIGURES, __doc__)
