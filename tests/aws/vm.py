"""Machines that are virtual ones: a stock kernel and init in qemu, key and user data by IMDSv2."""

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading

from machines import Machine


class VmMachine(Machine):
    """qemu without hardware help: this must run where there is no KVM."""

    metadata = None

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def start(self, instance, image, reachable=True):
        os.makedirs(self.directory, exist_ok=True)
        disk = self.path("disk.qcow2")
        if not os.path.exists(disk):
            base = image or os.path.join(self.options["images"], "base.qcow2")
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, disk], check=True)
        self.metadata = self.metadata or Metadata(instance)
        uuid = "ec2" + instance.id[2:].ljust(29, "0")[:29]
        uuid = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:32]))
        # The guest reaches its metadata at the true address, and nothing else.
        network = "user,model=virtio-net-pci,net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.0.15,restrict=on"
        if reachable:
            network += f",hostfwd=tcp:{self.address}:{self.options['ssh_port']}-:22"
        network += f",guestfwd=tcp:169.254.169.254:80-cmd:socat STDIO TCP:127.0.0.1:{self.metadata.port}"
        command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "768",
            "-display", "none", "-serial", "file:" + self.path("console"),
            "-kernel", os.path.join(self.options["images"], "vmlinuz"), "-initrd", os.path.join(self.options["images"], "initrd"),
            "-append", "root=/dev/vda rw console=ttyS0 panic=0 mitigations=off net.ifnames=0 quiet",
            "-drive", f"file={disk},if=virtio,cache=unsafe", "-nic", network,
            "-smbios", f"type=1,uuid={uuid},serial={uuid}", "-qmp", f"unix:{self.path('qmp')},server=on,wait=off",
        ]
        with open(self.path("qemu.log"), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def wait(self):
        # A reboot happens inside of qemu.
        self.process.wait()
        return "poweroff"

    def stop(self):
        """As a press on the power button, so that the guest's files are all written."""
        if not self.process or self.process.poll() is not None:
            return
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(5)
                control.connect(self.path("qmp"))
                stream = control.makefile("rw")
                for command in ("qmp_capabilities", "system_powerdown"):
                    stream.readline()
                    stream.write(json.dumps({"execute": command}) + "\n")
                    stream.flush()
                self.process.wait(timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{self.directory}: power off: {error!r}", file=sys.stderr)
        self.kill()

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def remove(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def image(self, name):
        path = os.path.join(os.path.dirname(self.directory), "images", name + ".qcow2")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # -U: the disk of a running instance is what a crash would leave, as in EC2.
        subprocess.run(["qemu-img", "convert", "-U", "-O", "qcow2", self.path("disk.qcow2"), path], check=True)
        return path

    def console(self):
        try:
            with open(self.path("console"), "rb") as file:
                return file.read()[-65536:]
        except OSError:
            return b""


class Metadata(threading.Thread):
    """A small IMDSv2 for one instance, on a loopback port of its own."""

    def __init__(self, instance):
        super().__init__(daemon=True)
        known = {
            "meta-data/": "ami-id\ninstance-id\nlocal-hostname\nhostname\nlocal-ipv4\nplacement/\npublic-keys/\n",
            "meta-data/instance-id": instance.id, "meta-data/ami-id": instance.image, "meta-data/hostname": instance.id,
            "meta-data/local-hostname": instance.id, "meta-data/local-ipv4": "169.254.0.15",
            "meta-data/placement/": "availability-zone", "meta-data/placement/availability-zone": instance.region + "a",
            "dynamic/instance-identity/document": json.dumps({"instanceId": instance.id, "region": instance.region}),
        }
        if instance.key:
            known |= {"meta-data/public-keys/": "0=key", "meta-data/public-keys/0/": "openssh-key"}
            known["meta-data/public-keys/0/openssh-key"] = instance.key
        if instance.user_data:
            known["user-data"] = instance.user_data
        handler = type("Handler", (MetadataHandler,), {"known": known})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]
        self.start()

    def run(self):
        self.server.serve_forever()


class MetadataHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known = {}

    def reply(self, status, body=b""):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.reply(200, "token") if self.path == "/latest/api/token" else self.reply(404)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != "token":
            return self.reply(401)
        name = re.sub(r"^/(latest|\d{4}-\d\d-\d\d)/", "", self.path)
        found = next((self.known[key] for key in (name, name.rstrip("/"), name + "/") if key in self.known), None)
        return self.reply(404) if found is None else self.reply(200, found)

    def log_message(self, *_):
        pass
