#!/usr/bin/python3
"""Figures of the AMI builder against Debian's packer, on EC2 on loopback whose states take as long as in EC2.

    bench_aws.py KILN [RUNS]

Needs the harness (scripts/aws-harness.sh start; its environment in KILN_TEST_AWS) and packer 1.6.6. With lags of 4, 6, 20 and 8 s
for running, stopped, image and terminated, 38 s in all, a build must end within 15 s more; and it must not call EC2 more often than
packer does for the same template. Packer runs once, as it takes its 80 s whatever the machine does. Exits with 1 when a figure misses its target.
"""

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

LAGS = {"running": 4, "stopped": 6, "image": 20, "terminated": 8}
ALLOWED = sum(LAGS.values()) + 15


class Account:
    """An account of the harness's own, with EC2's lags."""

    def __init__(self, endpoint, lags):
        self.endpoint, self.key = endpoint, "AKIA" + secrets.token_hex(8).upper()
        self.ask("settings", {"lags": lags})

    def ask(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.endpoint}/_/{self.key}/{what}", data=data, timeout=60) as answer:
            return json.load(answer)

    def template(self):
        source = {
            "type": "amazon-ebs", "region": "us-east-1", "custom_endpoint_ec2": self.endpoint, "skip_metadata_api_check": True,
            "source_ami": "ami-0deb1a12000000001", "instance_type": "t3.micro", "ami_name": "bench", "ssh_username": "admin",
            "ssh_port": int(os.environ.get("KILN_TEST_AWS_SSH_PORT", "22")), "tags": {"Team": "a"},
        }
        return {"builders": [source], "provisioners": [{"type": "shell", "inline": ["true"]}]}

    def environment(self, home):
        return {
            "PATH": os.environ["PATH"], "HOME": home, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": "not-checked",
            "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true", "CHECKPOINT_DISABLE": "1",
        }


def build(program, endpoint, lags=LAGS):
    """Wall seconds and number of calls of one build."""
    account = Account(endpoint, lags)
    with tempfile.TemporaryDirectory() as home:
        with open(os.path.join(home, "a.json"), "w", encoding="utf-8") as file:
            json.dump(account.template(), file)
        start = time.monotonic()
        ended = subprocess.run([program, "build", "a.json"], cwd=home, env=account.environment(home), stdin=subprocess.DEVNULL, capture_output=True, check=False)
        seconds = time.monotonic() - start
    if ended.returncode != 0:
        sys.exit(f"{program} failed:\n{ended.stdout.decode()}{ended.stderr.decode()}")
    left = account.ask("left")
    if set(left) != {"images"} or len(left["images"]) != 1:
        sys.exit(f"{program} left {left}")
    calls = len(account.ask("log"))
    account.ask("forget", {})
    return seconds, calls


def main():
    if len(sys.argv) < 2 or not os.environ.get("KILN_TEST_AWS"):
        sys.exit(__doc__)
    kiln, runs, endpoint = os.path.abspath(sys.argv[1]), int((sys.argv + ["3"])[2]), os.environ["KILN_TEST_AWS"]
    packer = build("packer", endpoint)
    ours = [build(kiln, endpoint) for _ in range(runs)]
    seconds, calls = statistics.median(run[0] for run in ours), max(run[1] for run in ours)
    # Without lags, what the clients themselves take.
    none = dict.fromkeys(LAGS, 0)
    quick, quick_packer = statistics.median(build(kiln, endpoint, none)[0] for _ in range(runs)), build("packer", endpoint, none)[0]
    rows = [
        ("AMI build with EC2's lags", f"{packer[0]:.1f} s", f"{seconds:.1f} s", f"at most {ALLOWED} s", seconds <= ALLOWED),
        ("its calls", str(packer[1]), str(calls), f"at most {packer[1]}", calls <= packer[1]),
        ("AMI build without lags", f"{quick_packer:.1f} s", f"{quick:.1f} s", "", True),
    ]
    for name, theirs, own, target, met in rows:
        print(f"{name:28} packer {theirs:>8}   kiln {own:>8}   {target} {'' if met else 'MISSED'}".rstrip())
    sys.exit(0 if all(row[4] for row in rows) else 1)


if __name__ == "__main__":
    main()
