"""One call of a client: what it asks of whom, who carries it out, and what the answer is."""

import base64
import json
import re
import urllib.parse
import xml.etree.ElementTree as ET

import fleet
import images
from account import parameters_of, public_half
from query import Ec2Error, answer, tag

XML = [("Content-Type", "text/xml;charset=UTF-8")]
SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")
# Calls that EC2 answers as it did before when their token comes again.
IDEMPOTENT = {"RunInstances", "CreateFleet", "CopyImage", "CreateLaunchTemplate"}

# Filters of instances that moto does not have, or answers with states of its own: where the value is found.
OWN_FILTERS = {"client-token": ["clientToken"], "instance-state-name": ["instanceState", "name"]}


class Call:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.pairs = {}
        if method == "POST" and "x-www-form-urlencoded" in headers.get("Content-Type", headers.get("content-type", "")):
            self.pairs = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        lower = {name.lower(): value for name, value in headers.items()}
        scope = SCOPE.search(lower.get("authorization", ""))
        self.key, self.region, self.service = scope.groups() if scope else ("anonymous", "us-east-1", "sts")
        if not scope and "RoleArn" in self.pairs:
            # AssumeRoleWithWebIdentity is not signed: the role tells whose account it is.
            self.key = self.pairs["RoleArn"].split(":")[4]
        target = lower.get("x-amz-target", "")
        self.action = self.pairs.get("Action") or target.rpartition(".")[2] or f"{method} {path}"
        self.is_json = bool(target)

    def parameters(self):
        return parameters_of(self.pairs)


def refusal(call, code, message, status):
    if call.is_json:
        body = json.dumps({"__type": code, "message": message}).encode()
        return status, [("Content-Type", "application/x-amz-json-1.1")], body
    if call.service == "ec2":
        return status, XML, Ec2Error(code, message, status).xml()
    body = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return status, XML, body.encode()


def error_of(data):
    found = re.search(rb"<Code>([^<]*)", data) or re.search(rb'"__type": *"([^"]*)', data)
    return found[1].decode() if found else data[:200].decode("utf-8", "replace")


def carry_out(harness, account, call):
    """Status, headers and body of the answer."""
    if call.service != "ec2":
        status, headers, data = harness.moto.forward(account.number, call.method, call.path, call.headers, call.body)
        if call.action == "RemoveRoleFromInstanceProfile" and status == 500:
            # moto stumbles over a profile without that role.
            return refusal(call, "NoSuchEntity", "The role is not in the instance profile", 404)
        if call.service == "sts" and status == 200:
            # Whoever assumed a role is still in the test's account.
            harness.aliases.update({key.decode(): account.key for key in re.findall(rb"<AccessKeyId>([^<]+)", data)})
        return status, headers, data
    try:
        parameters = call.parameters()
        token = (call.action, call.region, parameters.get("ClientToken")) if call.action in IDEMPOTENT else None
        asked = {name: value for name, value in call.pairs.items() if name != "ClientToken"}
        with account.lock:
            before = account.tokens.get(token) if token and token[2] else None
        if before:
            if before[0] != asked:
                raise Ec2Error("IdempotentParameterMismatch", "The request's parameters are not those of the first one")
            return 200, XML, before[1]
        data = ec2(harness, account, call.region, call.action, parameters)
        if token and token[2]:
            account.tokens[token] = (asked, data)
        return 200, XML, data
    except Ec2Error as error:
        return refusal(call, error.code, error.message, error.status)


def ec2(harness, account, region, action, parameters):
    """The body of a successful answer of EC2."""
    account.touched.add(region)
    dry = parameters.get("DryRun") == "true"
    if action == "CreateImage" and not dry:
        return answer(action, account.create_image(region, parameters))
    if action in images.ACTIONS:
        if dry:
            raise Ec2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        return answer(action, getattr(account.images(region), action)(parameters))
    if action == "CreateFleet":
        return answer(action, fleet.create(account, region, parameters, lambda asked: run(harness, account, region, asked)))
    if action == "GetConsoleOutput":
        return answer(action, account.console(region, parameters))
    if action == "ModifyInstanceAttribute" and account.modify_instance(parameters):
        return answer(action, {"return": True})
    if action in ("CreateTags", "DeleteTags"):
        parameters = tag_ours(account, region, action, parameters)
        if not parameters["ResourceId"]:
            return answer(action, {"return": True})
    if action == "DeleteSecurityGroup":
        account.check_group_is_free(parameters)
    own = []
    if action == "DescribeInstances":
        own = [item for item in parameters.get("Filter", []) if item["Name"] in OWN_FILTERS]
        parameters = {**parameters, "Filter": [item for item in parameters.get("Filter", []) if item not in own]}
    if action == "RunInstances":
        root = run(harness, account, region, parameters)
    else:
        root = moto(harness, account, region, action, parameters)
        after(account, region, action, parameters, root)
    account.rewrite(action, root)
    for item in own:
        keep_instances(root, OWN_FILTERS[item["Name"]], item.get("Value", []))
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def keep_instances(root, path, values):
    """Takes instances out of an answer that have none of these values at a path."""
    place = "/".join(tag(name) for name in path)
    for instances in root.iter(tag("instancesSet")):
        for instance in list(instances):
            if instance.findtext(place) not in values:
                instances.remove(instance)
    for reservations in root.iter(tag("reservationSet")):
        for reservation in [item for item in reservations if not len(item.find(tag("instancesSet")))]:
            reservations.remove(reservation)


def moto(harness, account, region, action, parameters):
    status, data = account.moto(region, action, parameters)
    if status != 200:
        raise harness.moto.refused(status, data)
    return harness.moto.tree(data)


def run(harness, account, region, parameters):
    image, devices, told = account.before_run(region, parameters)
    without = account.settings.get("no_capacity") or {}
    if parameters.get("InstanceType") in without:
        raise Ec2Error(without[parameters["InstanceType"]], "We currently do not have sufficient capacity", 500)
    try:
        root = moto(harness, account, region, "RunInstances", told)
    except Ec2Error as error:
        if error.code != "NoSuchEntity":
            raise
        message = "Value for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        raise Ec2Error("InvalidParameterValue", message) from error
    account.after_run(region, image, devices, parameters, root)
    return root


def tag_ours(account, region, action, parameters):
    """Tags images and snapshots; gives the call for the others."""
    tags = {item["Key"]: item.get("Value", "") for item in parameters.get("Tag", [])}
    others = [ident for ident in parameters.get("ResourceId", []) if not account.images(region).tag(ident, tags, action == "DeleteTags")]
    return {**parameters, "ResourceId": others}


def after(account, region, action, parameters, root):
    """What the machines have to know of a call that moto carried out."""
    if action == "CreateKeyPair":
        account.keys[region, parameters["KeyName"]] = public_half(root.findtext(f".//{tag('keyMaterial')}"))
    elif action == "ImportKeyPair":
        account.keys[region, parameters["KeyName"]] = base64.b64decode(parameters["PublicKeyMaterial"]).decode().strip()
    elif action == "DeleteKeyPair":
        account.keys.pop((region, parameters.get("KeyName")), None)
    elif action == "CreateLaunchTemplate":
        fleet.remember(account, region, parameters)
    elif action in ("StopInstances", "TerminateInstances", "StartInstances", "RebootInstances"):
        for ident in parameters.get("InstanceId", []):
            if ident in account.instances:
                account.change(account.instances[ident], action)
