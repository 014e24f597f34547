import json
from pathlib import Path

HERE = Path(__file__).parent
VERSION = (HERE / "version_label").read_text().strip()


def application(environment, start_response):
    path = environment["PATH_INFO"]
    if path == "/_status":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"status": "ok", "version": VERSION}).encode()]
    if path == "/site.css":
        start_response("200 OK", [("Content-Type", "text/css")])
        return [(HERE / "assets/site.css").read_bytes()]
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"not found\n"]
