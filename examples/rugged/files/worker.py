#!/usr/bin/python3
"""Stands in for the project's Celery worker: says which role it signs for, and waits to be stopped."""

import signal
import sys


def role(path):
    """The value of `role:` in the configuration; the minimal Python has no YAML."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key == "role":
                return value.strip()
    sys.exit(f"{path} names no role")


def main():
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    print(f"worker for the role {role('/etc/rugged/rugged.yaml')} is ready", flush=True)
    stopped = signal.sigwait(signals)
    print(f"stopped by {signal.Signals(stopped).name}", flush=True)


main()
