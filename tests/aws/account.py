"""One account's world: instances with machines behind them, their images by region, faults, lags, and what is left.

moto knows accounts by number; the harness gives each access key an account of its own, so that tests do not meet.
"""

import base64
import hashlib
import ipaddress
import os
import re
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as ET

from images import Images, merged_devices
from machines import watch
from query import Ec2Error, nested, tag

CODES = {"pending": "0", "running": "16", "shutting-down": "32", "terminated": "48", "stopping": "64", "stopped": "80"}
DEFAULT_REGION = "us-east-1"


class Settings:
    """What a test asks of its account."""

    def __init__(self, lags):
        self.lags, self.values, self.faults, self.counts = dict(lags), {}, [], {}
        self.lock = threading.Lock()

    def lag(self, name, default=0.0):
        return float(self.lags.get(name, default))

    def get(self, name, default=None):
        return self.values.get(name, default)

    def take(self, name):
        """A switch that holds for one time."""
        with self.lock:
            return self.values.pop(name, None)

    def fault(self, action, region):
        with self.lock:
            count = self.counts[action] = self.counts.get(action, 0) + 1
            for fault in self.faults:
                if fault["action"] not in (action, "*") or fault.get("region", region) != region:
                    continue
                # Of a fault for all actions each one gets its number of times.
                if fault["action"] == "*" and action in fault.get("but", []):
                    continue
                if fault.get("from", 1) <= count < fault.get("from", 1) + fault.get("times", 1):
                    return fault
        return None


class Instance:
    def __init__(self, ident, region, image, parameters):
        self.id, self.region, self.image = ident, region, image
        self.state, self.devices, self.volumes = "pending", [], {}
        self.user_data = base64.b64decode(parameters.get("UserData") or "")
        self.behaviour = parameters.get("InstanceInitiatedShutdownBehavior", "stop")
        self.ena, self.sriov, self.groups, self.key, self.type = True, None, [], None, ""
        self.machine, self.machine_image, self.starts = None, None, 0
        self.console_from = float("inf")
        # Held while something is done to the machine, which may take a while; the account's lock is not.
        self.lock = threading.RLock()


class Account:
    def __init__(self, key, harness):
        self.key, self.harness = key, harness
        self.number = str(10**11 + int(hashlib.sha256(key.encode()).hexdigest(), 16) % (9 * 10**11))
        self.settings = Settings(harness.options["lags"])
        self.lock = threading.RLock()
        self.instances, self.keys, self.log = {}, {}, []
        self.by_region, self.templates, self.tokens, self.held = {}, {}, {}, []
        self.touched = {DEFAULT_REGION}
        self.started = time.time()

    def images(self, region):
        with self.lock:
            self.touched.add(region)
            if region not in self.by_region:
                self.by_region[region] = Images(self, region)
            return self.by_region[region]

    def key_arn(self, region, key):
        """What a key's name means, as EC2 shows it."""
        return key if key.startswith("arn:") else f"arn:aws:kms:{region}:{self.number}:{'' if '/' in key else 'key/'}{key}"

    def moto(self, region, action, parameters=None, service="ec2"):
        """Asks moto in this account's name: status and body."""
        return self.harness.moto.call(self.number, service, region, action, parameters or {})

    def ask(self, region, action, parameters=None):
        return self.harness.moto.tree(self.moto(region, action, parameters)[1])

    # Instances

    def before_run(self, region, parameters):
        """What moto does not check of RunInstances, and what it has to be told otherwise."""
        image = self.images(region).get(parameters.get("ImageId", ""))
        if image.state != "available":
            raise Ec2Error("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is no longer available")
        arm = re.match(r"[a-z]+\d+g", parameters.get("InstanceType", "")) is not None
        if arm != (image.architecture == "arm64"):
            message = f"The architecture of the specified instance type does not match the architecture '{image.architecture}' of the specified AMI."
            raise Ec2Error("InvalidParameterValue", message)
        if parameters.get("KeyName") and (region, parameters["KeyName"]) not in self.keys:
            raise Ec2Error("InvalidKeyPair.NotFound", f"The key pair '{parameters['KeyName']}' does not exist")
        devices = merged_devices(image.devices, parameters.get("BlockDeviceMapping", []))
        told = []
        for device in devices:
            if "Ebs" not in device:
                continue
            # moto wants to know snapshots and details of volumes that it does not need.
            ebs = {key: device["Ebs"][key] for key in ("VolumeSize", "DeleteOnTermination") if key in device["Ebs"]}
            told.append({"DeviceName": device["DeviceName"], "Ebs": {"VolumeSize": 8, "VolumeType": "gp3", **ebs}})
        return image, devices, {**parameters, "BlockDeviceMapping": told}

    def after_run(self, region, image, devices, parameters, root):
        for item in root.iter(tag("item")):
            ident = item.findtext(tag("instanceId"))
            if ident is None or ident in self.instances or item.find(tag("instanceState")) is None:
                continue
            instance = Instance(ident, region, image.id, parameters)
            instance.devices, instance.ena, instance.sriov = devices, image.ena, image.sriov
            instance.type, instance.key = parameters.get("InstanceType", ""), self.keys.get((region, parameters.get("KeyName")))
            instance.groups = sorted({group.text for group in item.iter(tag("groupId"))})
            self.read_volumes(instance)
            instance.machine = self.harness.new_machine(self, instance)
            with self.lock:
                self.instances[ident] = instance
            threading.Thread(target=self.boot, args=(instance,), daemon=True).start()

    def read_volumes(self, instance):
        for item in self.ask(instance.region, "DescribeInstances", {"InstanceId": [instance.id]}).iter(tag("item")):
            name, volume = item.findtext(tag("deviceName")), item.find(f"{tag('ebs')}/{tag('volumeId')}")
            if name and volume is not None:
                instance.volumes[name] = volume.text

    def admits(self, instance):
        """Whether the instance's security groups let this host in."""
        port, here = self.harness.options["ssh_port"], ipaddress.ip_address("127.0.0.1")
        root = self.ask(instance.region, "DescribeSecurityGroups", {"GroupId": instance.groups or ["sg-none"]})
        for permission in root.iterfind(f".//{tag('ipPermissions')}/{tag('item')}"):
            ports = [int(permission.findtext(tag(name)) or default) for name, default in (("fromPort", 0), ("toPort", 65535))]
            if permission.findtext(tag("ipProtocol")) not in ("tcp", "6", "-1") or not ports[0] <= port <= ports[1]:
                continue
            for cidr in permission.iter(tag("cidrIp")):
                if here in ipaddress.ip_network(cidr.text):
                    return True
        return False

    def boot(self, instance):
        self.start_machine(instance)
        time.sleep(self.settings.lag("running"))
        with self.lock:
            if instance.state == "pending":
                instance.state = "running"
            instance.console_from = time.time() + self.settings.lag("console")

    def start_machine(self, instance):
        with instance.lock:
            if instance.state in ("shutting-down", "terminated"):
                return
            image = self.images(instance.region).images.get(instance.image)
            reachable = self.settings.get("reachable", True) and self.admits(instance)
            instance.machine_image = image.machine_image if image else instance.machine_image
            instance.machine.start(instance, instance.machine_image, reachable)
            instance.starts += 1
            if instance.machine.process:
                starts = instance.starts
                watch(instance.machine, lambda what: self.machine_ended(instance, starts, what))

    def machine_ended(self, instance, starts, what):
        """A machine that ended by itself restarts, or takes its instance with it."""
        with self.lock:
            if instance.starts != starts or instance.state not in ("pending", "running"):
                return
        if what == "reboot":
            self.start_machine(instance)
        elif what == "poweroff":
            action = "TerminateInstances" if instance.behaviour == "terminate" else "StopInstances"
            self.moto(instance.region, action, {"InstanceId": [instance.id]})
            self.change(instance, action)

    def change(self, instance, action):
        """Takes an instance where a call says, after EC2's lag."""
        with self.lock:
            ended = instance.state in ("shutting-down", "terminated")
            if ended or (action == "StopInstances" and instance.state in ("stopping", "stopped")):
                return
            instance.state = {"StopInstances": "stopping", "TerminateInstances": "shutting-down"}.get(action, instance.state)
        threading.Thread(target=self.carry_out, args=(instance, action), daemon=True).start()

    def carry_out(self, instance, action):
        if action == "StopInstances":
            time.sleep(self.settings.lag("stopped"))
            with instance.lock:
                instance.machine.stop()
                if instance.state == "stopping":
                    instance.state = "stopped"
        elif action == "TerminateInstances":
            time.sleep(self.settings.lag("terminated"))
            with instance.lock:
                instance.machine.remove()
                instance.state = "terminated"
        else:
            with instance.lock:
                if action == "RebootInstances":
                    instance.starts += 1
                    instance.machine.stop()
                else:
                    instance.state = "pending"
            self.boot(instance)

    def bake(self, image):
        """Turns the disk of an image's instance into what a machine can start from."""
        instance = self.instances.get(image.instance)
        if instance is None or instance.state == "terminated":
            return
        with instance.lock:
            live = instance.state == "running" and not image.no_reboot
            if live:
                instance.starts += 1
                instance.machine.stop()
            image.machine_image = instance.machine.image(image.id)
            if live:
                self.start_machine(instance)

    def create_image(self, region, parameters):
        instance = self.instances.get(parameters["InstanceId"])
        if instance is None or instance.state == "terminated":
            raise Ec2Error("InvalidInstanceID.NotFound", f"The instance ID '{parameters['InstanceId']}' does not exist")
        if instance.state not in ("running", "stopped"):
            raise Ec2Error("IncorrectState", f"Instance '{instance.id}' is not 'running' or 'stopped'")
        image = self.images(region).create(instance, parameters)
        return {"imageId": image.id}

    def modify_instance(self, parameters):
        """The attributes that moto does not keep: whether it was one of those."""
        instance = self.instances.get(parameters.get("InstanceId"))
        if instance is None or not {"EnaSupport", "SriovNetSupport"} & set(parameters):
            return False
        if instance.state != "stopped":
            raise Ec2Error("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state")
        if "EnaSupport" in parameters:
            instance.ena = parameters["EnaSupport"]["Value"] == "true"
        if "SriovNetSupport" in parameters:
            instance.sriov = parameters["SriovNetSupport"]["Value"]
        return True

    def check_group_is_free(self, parameters):
        group = parameters.get("GroupId")
        for instance in self.instances.values():
            if group in instance.groups and instance.state != "terminated":
                raise Ec2Error("DependencyViolation", f"resource {group} has a dependent object")

    def console(self, region, parameters):
        instance = self.instances.get(parameters.get("InstanceId"))
        if instance is None or instance.region != region:
            raise Ec2Error("InvalidInstanceID.NotFound", "The instance ID does not exist")
        output = instance.machine.console() if time.time() >= instance.console_from else b""
        fields = {"instanceId": instance.id, "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())}
        return {**fields, "output": base64.b64encode(output).decode()}

    def rewrite(self, action, root):
        """Puts the machines' addresses and states into moto's answers."""
        for item in root.iter(tag("item")):
            instance = self.instances.get(item.findtext(tag("instanceId")) or "")
            if instance is None:
                continue
            told = {"ipAddress", "privateIpAddress", "dnsName", "privateDnsName", "publicIp", "publicDnsName"}
            for element in item.iter():
                if element.tag.rpartition("}")[2] in told:
                    element.text = instance.machine.address
            for name in ("instanceState", "currentState"):
                state = item.find(tag(name))
                if state is not None:
                    state.find(tag("name")).text = instance.state
                    state.find(tag("code")).text = CODES[instance.state]
            image = self.images(instance.region).images.get(instance.image)
            put(item, "rootDeviceName", image.root_name if image else "/dev/xvda")
            put(item, "architecture", image.architecture if image else "x86_64")
            put(item, "virtualizationType", "hvm")
            put(item, "enaSupport", "true" if instance.ena else "false")

    # What is left

    def left(self):
        """Everything of this account that a build can leave behind, in all regions it spoke to."""
        found = {"instances": [], "key-pairs": [], "security-groups": [], "volumes": [], "images": [], "snapshots": []}
        found |= {"launch-templates": [], "instance-profiles": [], "roles": []}
        for region in sorted(self.touched):
            images = self.images(region).left()
            found["images"] += [image.id for image in images["images"]]
            found["snapshots"] += [snapshot.id for snapshot in images["snapshots"]]
            found["key-pairs"] += self.names(region, "DescribeKeyPairs", "keyName")
            groups = self.names(region, "DescribeSecurityGroups", "groupName", "securityGroupInfo")
            found["security-groups"] += [name for name in groups if name != "default"]
            found["volumes"] += self.names(region, "DescribeVolumes", "volumeId", "volumeSet")
            found["launch-templates"] += self.names(region, "DescribeLaunchTemplates", "launchTemplateName")
        found["instances"] = [f"{item.id}:{item.state}" for item in self.instances.values() if item.state not in ("terminated", "shutting-down")]
        for action, kind in (("ListRoles", "RoleName"), ("ListInstanceProfiles", "InstanceProfileName")):
            body = self.moto(DEFAULT_REGION, action, service="iam")[1].decode()
            names = sorted(set(re.findall(rf"<{kind}>([^<]*)", body)))
            found["roles" if kind == "RoleName" else "instance-profiles"] += [name for name in names if not name.startswith("AWSServiceRole")]
        return {kind: items for kind, items in found.items() if items}

    def tags(self, region, ident):
        root = self.ask(region, "DescribeTags", {"Filter": [{"Name": "resource-id", "Value": [ident]}]})
        return {item.findtext(tag("key")): item.findtext(tag("value")) for item in root.iter(tag("item"))}

    def described_instances(self):
        """Instances, also terminated ones, with their tags and those of their volumes."""
        keys = ("id", "state", "image", "region", "type", "starts", "behaviour", "devices")
        for instance in list(self.instances.values()):
            fields = {key: getattr(instance, key) for key in keys} | {"address": instance.machine.address}
            volumes = {name: self.tags(instance.region, volume) for name, volume in instance.volumes.items()}
            yield fields | {"tags": self.tags(instance.region, instance.id), "volume_tags": volumes}

    def names(self, region, action, field, within=None):
        root = self.ask(region, action)
        place = root if within is None else root.find(tag(within))
        items = place.findall(tag("item")) if within else [item for item in root.iter(tag("item")) if item.find(tag(field)) is not None]
        return [item.findtext(tag(field)) for item in items]

    def forget(self):
        """Ends the account's machines."""
        for instance in list(self.instances.values()):
            instance.state = "terminated"
            with instance.lock:
                instance.machine.remove()


def put(item, name, text):
    element = item.find(tag(name))
    if element is None:
        element = ET.SubElement(item, tag(name))
    element.text = text


def public_half(private):
    """A key's public half, of its private one."""
    with tempfile.NamedTemporaryFile("w") as file:
        os.chmod(file.name, 0o600)
        file.write(private)
        file.flush()
        return subprocess.run(["ssh-keygen", "-y", "-f", file.name], check=True, capture_output=True, text=True).stdout.strip()


def parameters_of(pairs):
    return nested({name: value for name, value in pairs.items() if name not in ("Action", "Version")})
