"""Tasks that the workers do, each in the queue of its role."""

import os

from celery import Celery

CONFIG = "/opt/rugged/config.yaml"

# Mounted where the worker runs; no image holds it.
PASSWORD = "/run/secrets/broker_password"


def setting(name):
    """One value of the configuration: `name: "value"`."""
    with open(CONFIG, encoding="utf-8") as config:
        for line in config:
            key, _, value = line.partition(":")
            if key == name:
                return value.strip().strip('"')
    raise KeyError(name)


def broker():
    """Where the message broker is, with the password of the account there."""
    user, _, host = setting("broker").partition("@")
    password = ""
    if os.path.exists(PASSWORD):
        with open(PASSWORD, encoding="utf-8") as file:
            password = file.read().strip()
    return f"pyamqp://{user}:{password}@{host}//"


app = Celery("rugged", broker=broker())


@app.task
def ping():
    """Tells which release answers."""
    return setting("release")
