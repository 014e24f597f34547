"""What stands in for the application: it knows its version, and answers."""

import http.server
import pkgutil
import sys


def version():
    try:
        return pkgutil.get_data("pycroft", "VERSION").decode().strip()
    except FileNotFoundError:
        return "unreleased"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"pycroft {version()}\n".encode())


def main():
    command = sys.argv[1] if len(sys.argv) > 1 else "version"
    if command == "http":
        http.server.HTTPServer(("", 5000), Handler).serve_forever()
    print(f"pycroft {version()}")
