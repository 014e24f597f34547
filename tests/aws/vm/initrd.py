"""initrd.py DIRECTORY OUT: a compressed cpio archive (newc) of a directory, and /dev/console, as a kernel's first root."""

import gzip
import os
import sys


class Archive:
    def __init__(self):
        self.data, self.number = bytearray(), 0

    def add(self, name, mode, content=b"", device=(0, 0)):
        self.number += 1
        encoded = name.encode() + b"\0"
        fields = (self.number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        self.data += ("070701" + "".join(f"{field:08X}" for field in fields)).encode() + encoded
        self.pad()
        self.data += content
        self.pad()

    def pad(self):
        self.data += b"\0" * (-len(self.data) % 4)


def main(directory, out):
    archive = Archive()
    for place, directories, files in os.walk(directory):
        for name in directories:
            archive.add(os.path.relpath(os.path.join(place, name), directory), 0o40755)
        for name in files:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                archive.add(os.path.relpath(path, directory), 0o100000 | os.stat(path).st_mode & 0o777, file.read())
    archive.add("dev/console", 0o20600, device=(5, 1))
    archive.add("TRAILER!!!", 0)
    with gzip.open(out, "wb") as file:
        file.write(archive.data)


main(*sys.argv[1:])
