"""What a machine's scripts speak with: Google's metadata and secrets, Amazon's metadata and interfaces.

Every request to Amazon is checked by botocore's own signer.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEYS = {
    "AccessKeyId": "AKID",
    "SecretAccessKey": "secret/+x",
    "Token": "session==",
    "Expiration": "2099-01-01T00:00:00Z",
}
META = "/latest/meta-data/"
SHOWN = ("content-type", "x-amz-target")
NAMESPACE = {
    "autoscaling": ("2011-01-01", "http://autoscaling.amazonaws.com/doc/2011-01-01/"),
    "elasticloadbalancing": ("2015-12-01", "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"),
}
GROUP, TARGETS = "x-base-0123", "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/x-http/0123"
RESULTS = {  # of the group that the machine is in; held to botocore's shapes by a test
    "DescribeAutoScalingInstances": "<AutoScalingInstances><member><InstanceId>i-0123456789abcdef0</InstanceId>"
    f"<AutoScalingGroupName>{GROUP}</AutoScalingGroupName><AvailabilityZone>us-east-1a</AvailabilityZone>"
    "<LifecycleState>Terminating:Wait</LifecycleState><HealthStatus>HEALTHY</HealthStatus>"
    "<ProtectedFromScaleIn>false</ProtectedFromScaleIn></member></AutoScalingInstances>",
    "DescribeAutoScalingGroups": f"<AutoScalingGroups><member><AutoScalingGroupName>{GROUP}</AutoScalingGroupName>"
    f"<TargetGroupARNs><member>{TARGETS}</member><member>{TARGETS}-grpc</member></TargetGroupARNs></member>"
    "</AutoScalingGroups>",
    "DescribeLifecycleHooks": "<LifecycleHooks><member><LifecycleHookName>start</LifecycleHookName>"
    "<LifecycleTransition>autoscaling:EC2_INSTANCE_LAUNCHING</LifecycleTransition></member><member>"
    "<LifecycleHookName>drain</LifecycleHookName>"
    "<LifecycleTransition>autoscaling:EC2_INSTANCE_TERMINATING</LifecycleTransition></member></LifecycleHooks>",
    "CompleteLifecycleAction": "",
    "DeregisterTargets": "",
}


class Cloud(ThreadingHTTPServer):
    def __init__(self, kind: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), kind)
        self.secrets: dict[str, str] = {}
        self.metadata: dict[str, str] = {}
        self.region = "us-east-1"
        self.asked: list[dict[str, list[str]]] = []
        self.failures = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Cloud

    def answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Google(Answers):
    """The answers have spaces and lines as the real ones do."""

    def do_GET(self) -> None:
        if self.server.failures:
            self.server.failures -= 1
            return self.answer(503, "")
        if self.path == "/computeMetadata/v1/instance/service-accounts/default/token":
            good = self.headers["Metadata-Flavor"] == "Google"
            token = {"access_token": "ya29.c.token-of_the/machine", "expires_in": 3599, "token_type": "Bearer"}
            return self.answer(200 if good else 403, json.dumps(token))
        if self.headers["Authorization"] != "Bearer ya29.c.token-of_the/machine":
            return self.answer(401, "{}")
        name = self.path.removeprefix("/v1/").removesuffix(":access")
        if name not in self.server.secrets:
            return self.answer(404, json.dumps({"error": {"code": 404}}))
        data = base64.b64encode(self.server.secrets[name].encode()).decode()
        return self.answer(200, json.dumps({"name": name, "payload": {"data": data, "dataCrc32c": "1"}}, indent=2))


class Amazon(Answers):
    def do_PUT(self) -> None:
        good = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200 if good else 400, "imds-token")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "imds-token":
            return self.answer(401, "")
        path = self.path.removeprefix(META)
        own = {"iam/security-credentials/": "servers", "iam/security-credentials/servers": json.dumps(KEYS)}
        found = {**own, "placement/region": self.server.region, **self.server.metadata}.get(path)
        return self.answer(404, "") if found is None else self.answer(200, found)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(parse_qs(body.decode()))
        if not self._signed(body):
            return self.answer(403, "SignatureDoesNotMatch")
        if self.headers["x-amz-target"]:
            return self._json(self.headers["x-amz-target"].rpartition(".")[2], json.loads(body))
        (action,) = self.server.asked[-1]["Action"]
        space = next(s for v, s in NAMESPACE.values() if [v] == self.server.asked[-1]["Version"])
        return self.answer(200, query_answer(action, space))

    def _json(self, action: str, asked: dict[str, object]) -> None:
        if action == "GetAuthorizationToken":
            token = base64.b64encode(b"AWS:ecr-password").decode()
            return self.answer(200, json.dumps({"authorizationData": [{"authorizationToken": token}]}))
        name = str(asked["Name"])
        if name not in self.server.secrets or asked["WithDecryption"] is not True:
            return self.answer(400, json.dumps({"__type": "ParameterNotFound"}))
        found = {"Name": name, "Type": "SecureString", "Value": self.server.secrets[name], "Version": 1}
        return self.answer(200, json.dumps({"Parameter": found}))

    def _signed(self, body: bytes) -> bool:
        """Amazon's own library is the judge of ours."""
        service = self.headers["Authorization"].split("/")[3]
        theirs = AWSRequest(method="POST", url=f"{self.server.url}/", data=body)
        for name in (*SHOWN, "x-amz-date", "x-amz-security-token", "host"):
            if name in self.headers:
                theirs.headers[name] = self.headers[name]
        if theirs.headers.get("x-amz-security-token") != KEYS["Token"]:
            return False
        signer = SigV4Auth(Credentials(KEYS["AccessKeyId"], KEYS["SecretAccessKey"]), service, self.server.region)
        theirs.context["timestamp"] = self.headers["x-amz-date"]
        text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
        return self.headers["Authorization"].endswith(f"Signature={signer.signature(text, theirs)}")


def query_answer(action: str, space: str) -> str:
    result = f"<{action}Result>{RESULTS[action]}</{action}Result>"
    request = "<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata>"
    return f'<{action}Response xmlns="{space}">{result}{request}</{action}Response>'


@contextmanager
def cloud(kind: type[Answers]) -> Iterator[Cloud]:
    server = Cloud(kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
