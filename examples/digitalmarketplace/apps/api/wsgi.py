import json
from pathlib import Path

VERSION = Path(__file__).with_name("version_label").read_text().strip()


def application(environment, start_response):
    found = environment["PATH_INFO"] == "/_status"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "application/json")])
    return [json.dumps({"status": "ok" if found else "not found", "version": VERSION}).encode()]
