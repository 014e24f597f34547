#!/usr/bin/python3
"""A token realm for docker-registry that answers the way GitLab's does.

    token_realm.py make-key DIRECTORY     writes token.key and token.pem (the registry's rootcertbundle)
    token_realm.py serve DIRECTORY HOST:PORT [SECONDS]     SECONDS: how long a token lives, 300

GitLab's ways that clients must cope with: GET with HTTP Basic only (POST is 404), a wrong `service` is 404, the answer
holds `token` and nothing else, and a right that is missing is no error but a token with less access.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import sys
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SERVICE = "container_registry"
ISSUER = "kiln-test-issuer"
LIFETIME = 300

# user: (password, {path prefix: rights}). A job token may push to its own project only, as in GitLab.
USERS = {
    "gitlab-ci-token": ("job-token", {"group/project": {"pull", "push", "delete"}, "group/other": {"pull"}}),
    "deployer": ("deploy-token", {"group/project": {"pull", "push"}}),
    "admin": ("admin-password", {"": {"pull", "push", "delete"}}),
}


def make_key(directory):
    directory = pathlib.Path(directory)
    if (directory / "token.pem").exists():
        return
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kiln test token realm")])
    now = datetime.datetime.utcnow()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "token.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (directory / "token.pem").write_bytes(certificate.public_bytes(pem))


def key_id(certificate):
    """The id by which the registry finds the key: base32 of 30 bytes of its digest, in groups of four."""
    public = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode().rstrip("=")
    return ":".join(text[start : start + 4] for start in range(0, 48, 4))


def granted(user, scope):
    kind, name, actions = scope.split(":", 2)
    rights = set()
    for prefix, allowed in USERS[user][1].items() if user else ():
        if prefix == "" or name == prefix or name.startswith(prefix + "/"):
            rights |= allowed
    actions = [action for action in actions.split(",") if action in rights]
    return {"type": kind, "name": name, "actions": actions} if actions else None


class Realm(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Only what was granted is logged, below; never a header."""

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def user(self):
        """The user of the Basic header, None without one, False when it is wrong."""
        header = self.headers.get("Authorization", "")
        if not header:
            return None
        try:
            user, password = base64.b64decode(header.split()[1]).decode().split(":", 1)
        except (IndexError, ValueError):
            return False
        return user if user in USERS and USERS[user][0] == password else False

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        if url.path == "/health":
            return self.answer(200, {})
        query = urllib.parse.parse_qs(url.query)
        user = self.user()
        if user is False:
            return self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "HTTP Basic: Access denied"}]})
        if query.get("service") != [SERVICE]:
            return self.answer(404, {})
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        access = [grant for grant in (granted(user, scope) for scope in scopes) if grant]
        print(json.dumps({"user": user, "scopes": scopes, "access": access}), flush=True)
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user or "",
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 5,
            "exp": now + self.server.lifetime,
            "jti": str(uuid.uuid4()),
            "access": access,
        }
        token = jwt.encode(claims, self.server.key, algorithm="RS256", headers={"kid": self.server.key_id})
        return self.answer(200, {"token": token})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(404, {})


def serve(directory, address, lifetime):
    directory = pathlib.Path(directory)
    host, port = address.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Realm)
    server.key = (directory / "token.key").read_bytes()
    server.key_id = key_id(x509.load_pem_x509_certificate((directory / "token.pem").read_bytes()))
    server.lifetime = lifetime
    server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["make-key"]:
        make_key(sys.argv[2])
    elif sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]) if sys.argv[4:] else LIFETIME)
    else:
        sys.exit(__doc__)
