"""Amazon's part of vm.sh: secret ADDRESS, login IMAGE, ready, leave, watch, gone. Needs Python alone (3.9).

Requests are signed by hand (signature version 4) with the keys of the machine's role. SLIPWAY_METADATA_URL and
SLIPWAY_AWS_URL take the cloud's place in tests.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree

METADATA = os.environ.get("SLIPWAY_METADATA_URL", "http://169.254.169.254")
EVERY_S, TIMEOUT_S, TRIES = 5.0, 10, 5
LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
COMING, WAITS = ("Pending", "Warmed:Pending"), ("Pending:Wait", "Warmed:Pending:Wait")
JSON = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


def opened(request: urllib.request.Request) -> str:
    """The answer, tried again where the fault may pass."""
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as e:
            if e.code < 500 or not left:
                raise
        except OSError:
            if not left:
                raise
        time.sleep(TRIES - left)
    raise AssertionError("the last try returns or raises")


class Machine:
    """What the machine knows of itself (instance metadata, version 2)."""

    def __init__(self) -> None:
        self._token, self._until = "", 0.0

    def get(self, path: str) -> str | None:
        """None: there is nothing at that path."""
        if time.monotonic() >= self._until:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
            asked = urllib.request.Request(f"{METADATA}/latest/api/token", method="PUT", headers=headers)
            self._token, self._until = opened(asked), time.monotonic() + 240
        headers = {"X-aws-ec2-metadata-token": self._token}
        try:
            return opened(urllib.request.Request(f"{METADATA}/latest/meta-data/{path}", headers=headers))
        except urllib.error.HTTPError as e:
            if e.code == 404:
                return None
            raise

    def must(self, path: str) -> str:
        found = self.get(path)
        if not found:
            raise SystemExit(f"the machine's metadata has no {path}")
        return found.strip()

    def keys(self) -> dict[str, str]:
        role = self.must("iam/security-credentials/").split()[0]
        found = json.loads(self.must(f"iam/security-credentials/{role}"))
        return {name: found[name] for name in ("AccessKeyId", "SecretAccessKey", "Token")}


def signed(machine: Machine, service: str, body: bytes, kind: str, target: str = "") -> urllib.request.Request:
    """A POST to a service of the machine's region."""
    region, keys = machine.must("placement/region"), machine.keys()
    host = {"ecr": "api.ecr"}.get(service, service)
    url = os.environ.get("SLIPWAY_AWS_URL", f"https://{host}.{region}.amazonaws.com")
    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017  -- Python 3.9
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"content-type": kind, "host": urllib.parse.urlsplit(url).netloc, "x-amz-date": stamp}
    headers["x-amz-security-token"] = keys["Token"]
    if target:
        headers["x-amz-target"] = target
    names = ";".join(sorted(headers))
    lines = "".join(f"{k}:{headers[k]}\n" for k in sorted(headers))
    scope = f"{day}/{region}/{service}/aws4_request"
    asked = "\n".join(("POST", "/", "", lines, names, hashlib.sha256(body).hexdigest()))
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(asked.encode()).hexdigest()))
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}"
    headers["Authorization"] = f"{credential}, SignedHeaders={names}, Signature={signature}"
    return urllib.request.Request(url + "/", data=body, headers=headers, method="POST")


def query(machine: Machine, service: str, action: str, version: str, **words: str) -> list[ElementTree.Element]:
    """Every element of the answer, without its namespace."""
    body = urllib.parse.urlencode({"Action": action, "Version": version, **words}).encode()
    found = list(ElementTree.fromstring(opened(signed(machine, service, body, FORM))).iter())
    for element in found:
        element.tag = element.tag.rpartition("}")[2]
    return found


def scaling(machine: Machine, action: str, **words: str) -> list[ElementTree.Element]:
    return query(machine, "autoscaling", action, "2011-01-01", **words)


def standing(machine: Machine) -> tuple[str, str]:
    """The auto scaling group that the machine is in, and as what."""
    found = scaling(machine, "DescribeAutoScalingInstances", **{"InstanceIds.member.1": machine.must("instance-id")})
    told = {e.tag: e.text or "" for e in found}
    if not told.get("AutoScalingGroupName"):
        raise SystemExit("the machine is in no auto scaling group")
    return told["AutoScalingGroupName"], told.get("LifecycleState", "")


def group(machine: Machine) -> str:
    return standing(machine)[0]


def secret(machine: Machine, address: str) -> None:
    """The value of an encrypted parameter."""
    body = json.dumps({"Name": address, "WithDecryption": True}).encode()
    answer = json.loads(opened(signed(machine, "ssm", body, JSON, "AmazonSSM.GetParameter")))
    sys.stdout.write(answer["Parameter"]["Value"])


def login(machine: Machine, image: str) -> None:
    """Images of the account's own registry; the others need no name."""
    registry = image.partition("/")[0]
    if ".dkr.ecr." not in registry:
        return
    target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
    answer = json.loads(opened(signed(machine, "ecr", b"{}", JSON, target)))
    user, _, password = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode().partition(":")
    command = ["docker", "login", "--username", user, "--password-stdin", registry]
    subprocess.run(command, input=password, text=True, check=True, stdout=subprocess.DEVNULL)


def leave(machine: Machine) -> None:
    """Out of every target group: the balancer sends nothing new, and waits for what is under way."""
    name = group(machine)
    found = scaling(machine, "DescribeAutoScalingGroups", **{"AutoScalingGroupNames.member.1": name})
    for targets in (e.text for parent in found if parent.tag == "TargetGroupARNs" for e in parent):
        words = {"TargetGroupArn": targets or "", "Targets.member.1.Id": machine.must("instance-id")}
        query(machine, "elasticloadbalancing", "DeregisterTargets", "2015-12-01", **words)


def watch(machine: Machine) -> None:
    """Ends when the machine is to go, and says why."""
    while True:
        try:
            taken = machine.get("spot/instance-action")
            if taken is not None:
                return print(f"spot: {json.loads(taken)['action']}")
            if (machine.get("autoscaling/target-lifecycle-state") or "").strip() == "Terminated":
                return print("the group takes the machine out")
        except OSError as e:
            print(f"the machine's metadata does not answer: {e}", file=sys.stderr, flush=True)
        time.sleep(EVERY_S)


def gone(machine: Machine) -> None:
    """The group need not wait any longer."""
    if (machine.get("autoscaling/target-lifecycle-state") or "").strip() == "Terminated":
        complete(machine, group(machine), TERMINATING)


def ready(machine: Machine) -> None:
    """A group that waits for its new machines is told. A server that was only started again has nobody to tell."""
    name, state = standing(machine)
    for _ in range(TRIES):
        if state not in COMING:
            break
        time.sleep(EVERY_S)
        name, state = standing(machine)
    if state in WAITS:
        complete(machine, name, LAUNCHING)


def complete(machine: Machine, name: str, way: str) -> None:
    """Ends what a group waits for."""
    found = scaling(machine, "DescribeLifecycleHooks", AutoScalingGroupName=name)
    for hook in (e for e in found if e.tag == "member"):
        if hook.findtext("LifecycleTransition") == way:
            words = {"AutoScalingGroupName": name, "LifecycleHookName": hook.findtext("LifecycleHookName") or ""}
            words |= {"InstanceId": machine.must("instance-id"), "LifecycleActionResult": "CONTINUE"}
            scaling(machine, "CompleteLifecycleAction", **words)


def main(verb: str, *words: str) -> None:
    machine = Machine()
    if verb in ("secret", "login"):
        {"secret": secret, "login": login}[verb](machine, *words)
    else:
        {"ready": ready, "leave": leave, "watch": watch, "gone": gone}[verb](machine)


if __name__ == "__main__":
    main(*sys.argv[1:])
