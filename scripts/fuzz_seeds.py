#!/usr/bin/python3
"""Seeds for the fuzzers out of the tests' own corpora: fuzz_seeds.py DIRECTORY"""

import hashlib
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    directory = pathlib.Path(sys.argv[1])

    def seed(kind, text):
        if not text.strip():
            return
        folder = directory / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha256(text.encode()).hexdigest()[:16]).write_text(text, newline="")

    templates = [path for top in ("examples", "tests/fixtures", "src") for path in (ROOT / top).rglob("*") if path.is_file()]
    for path in templates:
        if path.suffix not in (".hcl", ".json", ".txt"):
            continue
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        if path.suffix == ".hcl":
            seed("hcl", text)
        elif path.suffix == ".json":
            seed("json", text)
            for action in re.findall(r'"([^"\n]*\{\{[^"\n]*)"', text):
                seed("go", action)
        for expression in re.findall(r"^> (.*)$", text, re.MULTILINE):
            seed("expressions", expression)


main()
