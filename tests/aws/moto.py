"""moto's server: started, and asked as some account."""

import http.client
import os
import re
import socket
import subprocess
import time
import urllib.parse
import xml.etree.ElementTree as ET

from query import NAMESPACE, Ec2Error, dotted

VERSIONS = {"ec2": "2016-11-15", "iam": "2010-05-08", "sts": "2011-06-15"}


class Moto:
    def __init__(self, program, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
            "IAM_INITIAL_NO_AUTH_ACTION_COUNT": "99999999",
            "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
        }
        with open(os.path.join(directory, "moto.log"), "ab") as log:
            self.process = subprocess.Popen(
                [program, "-H", "127.0.0.1", "-p", str(self.port)],
                env={**os.environ, **settings}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def wait(self, seconds=60):
        """Until it answers; and asks one thing, since the first answer takes seconds."""
        end = time.time() + seconds
        while time.time() < end:
            try:
                self.call("123456789012", "ec2", "us-east-1", "DescribeInstances", {})
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise SystemExit("moto's server did not come up; see moto.log")

    def forward(self, account, method, path, headers, body):
        """Sends a request on as it is, in an account's name: status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        passed = {name: value for name, value in headers.items() if name.lower() not in ("accept-encoding", "content-length", "connection")}
        connection.request(method, path, body, {**passed, "x-moto-account-id": account})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, response.getheaders(), data

    def call(self, account, service, region, action, parameters):
        """A call of the harness's own: status and body."""
        credential = f"AWS4-HMAC-SHA256 Credential=AKIAHARNESS/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        host = f"{service}.{region}.amazonaws.com" if service == "ec2" else f"{service}.amazonaws.com"
        headers = {"Authorization": credential, "Host": host, "Content-Type": "application/x-www-form-urlencoded"}
        pairs = {"Action": action, "Version": VERSIONS[service], **dotted(parameters)}
        status, _, body = self.forward(account, "POST", "/", headers, urllib.parse.urlencode(pairs))
        return status, body

    @staticmethod
    def tree(body):
        """An answer with one name space: moto's templates name several versions of the API."""
        return ET.fromstring(re.sub(rb'xmlns="http://ec2.amazonaws.com/doc/[^"]*"', b'xmlns="%s"' % NAMESPACE.encode(), body))

    @staticmethod
    def refused(status, body):
        """An error of moto's as one of ours."""
        code, message = re.search(rb"<Code>([^<]*)", body), re.search(rb"<Message>([^<]*)", body)
        return Ec2Error(code[1].decode() if code else "InternalError", message[1].decode() if message else "", status)

    def stop(self):
        self.process.terminate()
        self.process.wait()
