#!/usr/bin/env python3
"""Figures of `dockerfile` sources against `docker build` by the same engine's BuildKit, of the same context.

    bench_dockerfile.py KILN [RUNS] [FIGURE...]     figures: cached, uncached, big

`docker build` speaks to BuildKit by the plug-in `docker-buildx`; without it there is no peer, and the script says so.
"""

import os
import subprocess
import sys
import uuid

import benchlib

FILES = 400


class Dockerfiles(benchlib.Figures):
    def context(self, name, dockerfile, files):
        directory = self.directory / name
        directory.mkdir()
        (directory / "Dockerfile").write_text(dockerfile)
        for path, content in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        template = self.directory / f"{name}.kiln.hcl"
        template.write_text(
            f'source "dockerfile" "app" {{\n  context = "{name}"\n  kiln_labels = false\n}}\n'
            'build { sources = ["dockerfile.app"] }\n'
        )
        return directory, template

    def kiln_build(self, template, events=False):
        flags = ["-json"] if events else []
        return self.command(self.kiln, "build", *flags, str(template), events=events)

    def docker_build(self, directory):
        return self.command("docker", "buildx", "build", "--quiet", "--load", str(directory))

    def cached(self):
        files = {f"src/{index}": os.urandom(4096) for index in range(FILES)}
        text = "FROM debian:bookworm\nCOPY src /src\nRUN ls /src | wc -l > /count\nCMD true\n"
        directory, template = self.context("cached", text, files)
        ours, theirs = self.alternating(lambda: self.kiln_build(template), lambda: self.docker_build(directory))
        self.tell("nothing changed, 400 files copied", ours, theirs)

    def uncached(self):
        files = {f"src/{index}": os.urandom(4096) for index in range(FILES)}
        directory, template = self.context("uncached", "", files)

        def anew(build):
            # A text of its own for each run: nothing of it can be in the cache.
            text = f"FROM debian:bookworm\nRUN echo {uuid.uuid4()} > /id\nCOPY src /src\nRUN ls /src > /list\n"
            (directory / "Dockerfile").write_text(text)
            return build()

        ours, theirs = self.alternating(
            lambda: anew(lambda: self.kiln_build(template)), lambda: anew(lambda: self.docker_build(directory))
        )
        self.tell("all steps run", ours, theirs)

    def big(self):
        files = {f"big/{index}": os.urandom(30 << 20) for index in range(10)} | {"one": b"x"}
        directory, template = self.context("big", "FROM debian:bookworm\nCOPY one /one\n", files)
        ours, theirs = self.alternating(lambda: self.kiln_build(template), lambda: self.docker_build(directory))
        self.tell("300 MB of context, one byte copied", ours, theirs)
        sent = [event["text"] for event in self.kiln_build(template, events=True).events if event.get("text", "").startswith("sent ")]
        self.limit("the same: bytes sent", [int(sent[0].split()[1])], "B", 1024)
        (directory / "Dockerfile").write_text("FROM debian:bookworm\nCOPY . /all\n")
        self.kiln_build(template)
        (directory / "one").write_bytes(b"yy")
        (directory / "Dockerfile").write_text(f"FROM debian:bookworm\nCOPY . /all\nENV RUN={uuid.uuid4()}\n")
        sent = [event["text"] for event in self.kiln_build(template, events=True).events if event.get("text", "").startswith("sent ")]
        self.limit("300 MB copied, two bytes changed: bytes sent", [int(sent[0].split()[1])], "B", 1024)

    def tell(self, what, ours, theirs):
        self.report(what, [run.wall for run in ours], [run.wall for run in theirs], "s", 1.0, "docker build")


def has_peer():
    return subprocess.run(["docker", "buildx", "version"], **benchlib.QUIET).returncode == 0


if __name__ == "__main__":
    if not has_peer():
        print("SKIPPED: `docker build` has no BuildKit here; the plug-in docker-buildx gives it one")
        sys.exit(0)
    benchlib.main(Dockerfiles, ["cached", "uncached", "big"], __doc__)
