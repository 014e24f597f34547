"""AMIs and snapshots of one account in one region.

moto's own images have one volume of a fixed size and forget most of what CreateImage and CopyImage are told, so these are kept
here, after EC2's documented API.
"""

import datetime
import fnmatch
import re
import secrets
import threading
import time

from query import Ec2Error, is_true, tag_set, tags_of

NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}\Z")
DEFAULT_KEY = "alias/aws/ebs"
# Accounts that publish the stock images; each of them boots the harness's root file system.
DEBIAN, AMAZON = "136693071363", "137112412989"
STOCK = [
    ("ami-0deb1a12000000001", "debian-12-amd64-20260105-1", "x86_64", "ebs", "2026-01-05"),
    ("ami-0deb1a12000000002", "debian-12-amd64-20260302-1", "x86_64", "ebs", "2026-03-02"),
    ("ami-0deb1a12000000003", "debian-12-arm64-20260302-1", "arm64", "ebs", "2026-03-02"),
    ("ami-0deb1a12000000004", "debian-old-instance-store", "x86_64", "instance-store", "2019-01-01"),
]


def new_id(prefix):
    return f"{prefix}-0{secrets.token_hex(8)}"


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Image:
    def __init__(self, name, owner, **fields):
        self.id = new_id("ami")
        self.name, self.owner = name, owner
        self.description, self.owner_alias = "", None
        self.state, self.reason, self.created = "pending", None, now()
        # Until then DescribeImages does not tell which snapshots the image has.
        self.told_from = 0
        self.architecture, self.virtualization = "x86_64", "hvm"
        self.root_name, self.root_type = "/dev/xvda", "ebs"
        self.ena, self.sriov, self.imds, self.boot_mode = True, None, None, None
        self.source_id, self.source_region, self.instance = None, None, None
        self.devices, self.tags, self.permissions, self.product_codes = [], {}, [], []
        self.deprecation, self.protection, self.fast_launch = None, "disabled", None
        self.machine_image, self.no_reboot = None, False
        self.__dict__.update(fields)

    def mapping(self, device):
        ebs = device.get("Ebs")
        if ebs is None:
            return {"deviceName": device["DeviceName"], "virtualName": device.get("VirtualName")}
        told = time.time() >= self.told_from
        return {
            "deviceName": device["DeviceName"],
            "ebs": {
                "snapshotId": ebs.get("SnapshotId") if told else None,
                "volumeSize": ebs.get("VolumeSize"),
                "volumeType": ebs.get("VolumeType"),
                "iops": ebs.get("Iops"),
                "throughput": ebs.get("Throughput"),
                "deleteOnTermination": ebs.get("DeleteOnTermination", True),
                "encrypted": ebs.get("Encrypted", False),
            },
        }

    def is_public(self):
        return {"group": "all"} in self.permissions

    def xml(self):
        return {
            "imageId": self.id,
            "imageLocation": f"{self.owner}/{self.name}",
            "imageState": self.state,
            "imageOwnerId": self.owner,
            "imageOwnerAlias": self.owner_alias,
            "isPublic": self.is_public(),
            "architecture": self.architecture,
            "imageType": "machine",
            "name": self.name,
            "description": self.description or None,
            "creationDate": self.created,
            "rootDeviceType": self.root_type,
            "rootDeviceName": self.root_name,
            "blockDeviceMapping": [self.mapping(device) for device in self.devices],
            "virtualizationType": self.virtualization,
            "hypervisor": "xen",
            "enaSupport": self.ena,
            "sriovNetSupport": self.sriov,
            "imdsSupport": self.imds,
            "bootMode": self.boot_mode,
            "platformDetails": "Linux/UNIX",
            "usageOperation": "RunInstances",
            "deprecationTime": self.deprecation,
            "deregistrationProtection": self.protection,
            "sourceInstanceId": self.instance,
            "sourceImageId": self.source_id,
            "sourceImageRegion": self.source_region,
            "productCodes": [{"productCode": code, "type": "marketplace"} for code in self.product_codes] or None,
            "stateReason": {"code": "Client.HarnessError", "message": self.reason} if self.reason else None,
            "tagSet": tag_set(self.tags),
        }

    def value(self, name):
        """A filter's value, as texts."""
        own = {
            "architecture": self.architecture, "description": self.description, "image-id": self.id, "image-type": "machine",
            "is-public": str(self.is_public()).lower(), "name": self.name, "owner-alias": self.owner_alias,
            "owner-id": self.owner, "root-device-name": self.root_name, "root-device-type": self.root_type, "state": self.state,
            "virtualization-type": self.virtualization, "ena-support": str(self.ena).lower(), "hypervisor": "xen",
            "creation-date": self.created, "source-instance-id": self.instance,
        }
        if name.startswith("block-device-mapping."):
            field = {"volume-type": "VolumeType", "snapshot-id": "SnapshotId", "volume-size": "VolumeSize"}.get(name.split(".")[1])
            return [str(device.get("Ebs", {}).get(field, "")) for device in self.devices] if field else None
        return own_or_tags(own, self.tags, name)


class Snapshot:
    def __init__(self, owner, size, **fields):
        self.id = new_id("snap")
        self.owner, self.size = owner, size
        self.description, self.volume, self.started = "", "vol-ffffffff", now()
        self.state, self.encrypted, self.key = "pending", False, None
        self.tags, self.users, self.groups = {}, [], []
        self.__dict__.update(fields)

    def xml(self):
        return {
            "snapshotId": self.id,
            "volumeId": self.volume,
            "status": self.state,
            "startTime": self.started,
            "progress": "100%" if self.state == "completed" else "0%",
            "ownerId": self.owner,
            "volumeSize": self.size,
            "description": self.description,
            "encrypted": self.encrypted,
            "kmsKeyId": self.key,
            "tagSet": tag_set(self.tags),
        }

    def value(self, name):
        own = {
            "description": self.description, "encrypted": str(self.encrypted).lower(), "owner-id": self.owner,
            "snapshot-id": self.id, "status": self.state, "volume-id": self.volume, "volume-size": str(self.size),
        }
        return own_or_tags(own, self.tags, name)


def own_or_tags(own, tags, name):
    if name in own:
        return [own[name]]
    if name.startswith("tag:"):
        return [tags.get(name[4:])]
    if name == "tag-key":
        return list(tags)
    return None


def matching(items, parameters):
    """Those that pass all filters of a call."""
    for wanted in parameters.get("Filter", []):
        kept = []
        for item in items:
            values = item.value(wanted["Name"])
            if values is None:
                raise Ec2Error("InvalidParameterValue", f"The filter '{wanted['Name']}' is invalid")
            patterns = [re.sub(r"([\[\]])", r"[\1]", pattern) for pattern in wanted.get("Value", [])]
            if any(fnmatch.fnmatchcase(value, pattern) for value in values if value is not None for pattern in patterns):
                kept.append(item)
        items = kept
    return items


def merged_devices(base, asked):
    """An image's or instance's devices with what a call says about them put over."""
    devices = {device["DeviceName"]: device for device in base}
    for change in asked:
        name = change["DeviceName"]
        if "NoDevice" in change:
            devices.pop(name, None)
        elif "Ebs" in change:
            before = dict(devices.get(name, {}).get("Ebs", {}))
            ebs = {**before, **{key: read(key, value) for key, value in change["Ebs"].items()}}
            if "VolumeType" in change["Ebs"] and change["Ebs"]["VolumeType"] != before.get("VolumeType"):
                ebs = {key: value for key, value in ebs.items() if key not in ("Iops", "Throughput") or key in change["Ebs"]}
            ebs.setdefault("VolumeType", "gp2")
            if ebs["VolumeType"] == "gp3":
                ebs.setdefault("Iops", 3000)
                ebs.setdefault("Throughput", 125)
            ebs.setdefault("DeleteOnTermination", True)
            devices[name] = {"DeviceName": name, "Ebs": ebs}
        else:
            devices[name] = dict(change)
    return list(devices.values())


def read(key, value):
    if key in ("VolumeSize", "Iops", "Throughput"):
        return int(value)
    return value == "true" if key in ("DeleteOnTermination", "Encrypted") else value


class Images:
    """See the module. Public methods named as EC2's actions take a call's parameters and give the answer's fields."""

    def __init__(self, account, region):
        self.account, self.region, self.lock = account, region, threading.RLock()
        self.images, self.snapshots = {}, {}
        for ident, name, architecture, root_type, date in STOCK:
            self.add_stock(ident, name, architecture, root_type, date)

    def add_stock(self, ident, name, architecture, root_type, date):
        image = Image(name, DEBIAN, id=ident, architecture=architecture, root_type=root_type, state="available")
        image.created = f"{date}T00:00:00.000Z"
        image.permissions.append({"group": "all"})
        if root_type == "ebs":
            snapshot = Snapshot(DEBIAN, 8, state="completed")
            self.snapshots[snapshot.id] = snapshot
            ebs = {"SnapshotId": snapshot.id, "VolumeSize": 8, "VolumeType": "gp2", "DeleteOnTermination": True}
            image.devices.append({"DeviceName": image.root_name, "Ebs": ebs})
        self.images[image.id] = image

    def get(self, ident):
        if ident not in self.images:
            raise Ec2Error("InvalidAMIID.NotFound", f"The image id '[{ident}]' does not exist")
        return self.images[ident]

    def own(self, ident):
        image = self.get(ident)
        if image.owner != self.account.number:
            raise Ec2Error("AuthFailure", f"Not authorized for image:{ident}", 403)
        return image

    def snapshot(self, ident):
        if ident not in self.snapshots:
            raise Ec2Error("InvalidSnapshot.NotFound", f"The snapshot '{ident}' does not exist.")
        return self.snapshots[ident]

    def check_name(self, name):
        if not NAME.match(name):
            raise Ec2Error("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long")
        for image in self.images.values():
            if image.name == name and image.owner == self.account.number:
                raise Ec2Error("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")

    # What is there

    def DescribeImages(self, parameters):
        images = list(self.images.values())
        if "ImageId" in parameters:
            images = [self.get(ident) for ident in parameters["ImageId"]]
        owners = [self.account.number if owner == "self" else owner for owner in parameters.get("Owner", [])]
        if owners:
            images = [image for image in images if image.owner in owners or image.owner_alias in owners]
        if not is_true(parameters, "IncludeDeprecated") and "ImageId" not in parameters:
            images = [image for image in images if not image.deprecation or image.owner == self.account.number or image.deprecation > now()]
        return {"imagesSet": [image.xml() for image in matching(images, parameters)]}

    def DescribeSnapshots(self, parameters):
        snapshots = list(self.snapshots.values())
        if "SnapshotId" in parameters:
            snapshots = [self.snapshot(ident) for ident in parameters["SnapshotId"]]
        owners = [self.account.number if owner == "self" else owner for owner in parameters.get("Owner", [])]
        if owners:
            snapshots = [snapshot for snapshot in snapshots if snapshot.owner in owners]
        return {"snapshotSet": [snapshot.xml() for snapshot in matching(snapshots, parameters)]}

    # Making and removing

    def take_snapshots(self, devices, described, tags, volumes=None, encrypted=None, key=None):
        """Gives each volume of some devices a snapshot of its own."""
        taken = []
        for device in devices:
            ebs = device.get("Ebs")
            if ebs is None or (volumes is not None and device["DeviceName"] not in volumes):
                continue
            ebs["Encrypted"] = bool(ebs.get("Encrypted") or encrypted)
            snapshot = Snapshot(self.account.number, ebs.get("VolumeSize", 8), description=described, tags=dict(tags))
            snapshot.volume = (volumes or {}).get(device["DeviceName"], snapshot.volume)
            snapshot.encrypted = ebs["Encrypted"]
            if snapshot.encrypted:
                snapshot.key = self.account.key_arn(self.region, key or ebs.get("KmsKeyId") or DEFAULT_KEY)
            ebs["SnapshotId"] = snapshot.id
            self.snapshots[snapshot.id] = snapshot
            taken.append(snapshot)
        return taken

    def create(self, instance, parameters):
        """CreateImage, of an instance whose volumes are known."""
        with self.lock:
            self.check_name(parameters["Name"])
            source = self.account.images(self.region).images.get(instance.image)
            image = Image(parameters["Name"], self.account.number, instance=instance.id, description=parameters.get("Description", ""))
            if source:
                for field in ("architecture", "virtualization", "root_name", "imds", "boot_mode"):
                    setattr(image, field, getattr(source, field))
                image.source_id, image.source_region = source.id, self.region
                image.product_codes = list(source.product_codes)
            image.no_reboot = is_true(parameters, "NoReboot")
            image.ena, image.sriov = instance.ena, instance.sriov
            devices = [{**device, **({"Ebs": dict(device["Ebs"])} if "Ebs" in device else {})} for device in instance.devices]
            image.devices = merged_devices(devices, parameters.get("BlockDeviceMapping", []))
            image.tags = tags_of(parameters, "image")
            described = f"Created by CreateImage({instance.id}) for {image.id}"
            snapshots = self.take_snapshots(image.devices, described, tags_of(parameters, "snapshot"), volumes=instance.volumes)
            self.images[image.id] = image
        self.ripen(image, snapshots, self.account.settings.lag("image"), failing=self.account.settings.take("image_fails"))
        return image

    def CopyImage(self, parameters):
        source = self.account.images(parameters["SourceRegion"]).get(parameters["SourceImageId"])
        if source.state != "available":
            raise Ec2Error("InvalidRequest", f"Image {source.id} is not in the state available")
        with self.lock:
            self.check_name(parameters["Name"])
            image = Image(parameters["Name"], self.account.number, description=parameters.get("Description", ""))
            for field in ("architecture", "virtualization", "root_name", "imds", "boot_mode", "ena", "sriov", "machine_image"):
                setattr(image, field, getattr(source, field))
            image.source_id, image.source_region = source.id, parameters["SourceRegion"]
            image.devices = [{**device, "Ebs": dict(device["Ebs"])} if "Ebs" in device else dict(device) for device in source.devices]
            image.tags = tags_of(parameters, "image")
            if is_true(parameters, "CopyImageTags"):
                image.tags = {**{key: value for key, value in source.tags.items() if not key.startswith("aws:")}, **image.tags}
            described = f"Copied for DestinationAmi {image.id} from SourceAmi {source.id}"
            encrypted, key = is_true(parameters, "Encrypted"), parameters.get("KmsKeyId")
            snapshots = self.take_snapshots(image.devices, described, tags_of(parameters, "snapshot"), encrypted=encrypted, key=key)
            self.images[image.id] = image
        failing = self.region in (self.account.settings.get("copy_fails") or [])
        self.ripen(image, snapshots, self.account.settings.lag("copy", self.account.settings.lag("image")), failing=failing)
        return {"imageId": image.id}

    def ripen(self, image, snapshots, seconds, failing=False):
        """Makes an image and its snapshots available after a while."""
        image.told_from = time.time() + seconds / 2

        def work():
            if image.instance:
                self.account.bake(image)
            time.sleep(seconds)
            if failing:
                image.state, image.reason = "failed", "injected"
                return
            for snapshot in snapshots:
                snapshot.state = "completed"
            image.state = "available"

        threading.Thread(target=work, daemon=True).start()

    def DeregisterImage(self, parameters):
        with self.lock:
            image = self.own(parameters["ImageId"])
            if image.protection != "disabled":
                raise Ec2Error("OperationNotPermitted", f"The image {image.id} is protected from deregistration")
            del self.images[image.id]
            results = []
            if is_true(parameters, "DeleteAssociatedSnapshots"):
                for ident in snapshot_ids(image):
                    self.snapshots.pop(ident, None)
                    results.append({"snapshotId": ident, "returnCode": "success"})
        return {"return": True, "deleteSnapshotResultSet": results or None}

    def DeleteSnapshot(self, parameters):
        with self.lock:
            ident = self.snapshot(parameters["SnapshotId"]).id
            for image in self.images.values():
                if ident in snapshot_ids(image):
                    raise Ec2Error("InvalidSnapshot.InUse", f"The snapshot {ident} is currently in use by {image.id}")
            del self.snapshots[ident]
        return {"return": True}

    # Attributes

    def ModifyImageAttribute(self, parameters):
        image = self.own(parameters["ImageId"])
        if "Description" in parameters:
            image.description = parameters["Description"]["Value"]
        elif parameters.get("Attribute") == "description":
            image.description = parameters["Value"]
        if "ImdsSupport" in parameters:
            image.imds = parameters["ImdsSupport"]["Value"]
        image.product_codes += [code for code in parameters.get("ProductCode", []) if code not in image.product_codes]
        added, removed = permission_changes(parameters, "LaunchPermission")
        image.permissions = [item for item in image.permissions if item not in removed]
        for item in added:
            if item not in image.permissions:
                image.permissions.append(item)
        return {"return": True}

    def DescribeImageAttribute(self, parameters):
        image, attribute = self.own(parameters["ImageId"]), parameters["Attribute"]
        fields = {
            "launchPermission": {"launchPermission": image.permissions},
            "description": {"description": {"value": image.description}},
            "imdsSupport": {"imdsSupport": {"value": image.imds}},
            "sriovNetSupport": {"sriovNetSupport": {"value": image.sriov}},
            "productCodes": {"productCodes": [{"productCode": code, "type": "marketplace"} for code in image.product_codes]},
            "deregistrationProtection": {"deregistrationProtection": {"value": image.protection}},
        }
        if attribute not in fields:
            raise Ec2Error("InvalidRequest", f"The attribute {attribute} is not known")
        return {"imageId": image.id, **fields[attribute]}

    def ModifySnapshotAttribute(self, parameters):
        snapshot = self.snapshot(parameters["SnapshotId"])
        added, removed = permission_changes(parameters, "CreateVolumePermission")
        for items, field in ((snapshot.users, "userId"), (snapshot.groups, "group")):
            gone = [item[field] for item in removed if field in item]
            kept = [item for item in items if item not in gone]
            items[:] = dict.fromkeys(kept + [item[field] for item in added if field in item])
        return {"return": True}

    def DescribeSnapshotAttribute(self, parameters):
        snapshot = self.snapshot(parameters["SnapshotId"])
        permissions = [{"userId": user} for user in snapshot.users] + [{"group": group} for group in snapshot.groups]
        return {"snapshotId": snapshot.id, "createVolumePermission": permissions}

    def EnableImageDeprecation(self, parameters):
        self.own(parameters["ImageId"]).deprecation = parameters["DeprecateAt"]
        return {"return": True}

    def DisableImageDeprecation(self, parameters):
        self.own(parameters["ImageId"]).deprecation = None
        return {"return": True}

    def EnableImageDeregistrationProtection(self, parameters):
        with_cooldown = is_true(parameters, "WithCooldown")
        self.own(parameters["ImageId"]).protection = "enabled-with-cooldown" if with_cooldown else "enabled-without-cooldown"
        return {"return": "true"}

    def DisableImageDeregistrationProtection(self, parameters):
        self.own(parameters["ImageId"]).protection = "disabled"
        return {"return": "true"}

    def EnableFastLaunch(self, parameters):
        image = self.own(parameters["ImageId"])
        image.fast_launch = {"imageId": image.id, "resourceType": parameters.get("ResourceType", "snapshot"), "state": "enabled"}
        image.fast_launch["maxParallelLaunches"] = parameters.get("MaxParallelLaunches", "6")
        return dict(image.fast_launch, state="enabling")

    def DescribeFastLaunchImages(self, parameters):
        wanted = parameters.get("ImageId", list(self.images))
        found = [self.images[ident].fast_launch for ident in wanted if ident in self.images]
        return {"fastLaunchImageSet": [item for item in found if item]}

    # Tags

    def tag(self, ident, tags, remove=False):
        """Tags one of ours: whether it is one."""
        item = self.images.get(ident) or self.snapshots.get(ident)
        if item is None:
            if ident.startswith(("ami-", "snap-")):
                kind = "AMIID" if ident.startswith("ami-") else "Snapshot"
                raise Ec2Error(f"Invalid{kind}.NotFound", f"The ID '{ident}' does not exist")
            return False
        for key, value in tags.items():
            if remove:
                item.tags.pop(key, None)
            else:
                item.tags[key] = value
        return True

    def described(self):
        """All attributes of this account's images, each device with its snapshot."""
        fields = ("id", "name", "description", "state", "architecture", "virtualization", "root_name", "ena", "sriov", "imds")
        fields += ("tags", "permissions", "product_codes", "deprecation", "protection", "fast_launch")
        parts = ("id", "size", "state", "encrypted", "key", "tags", "users", "groups")
        found = []
        for image in self.left()["images"]:
            devices = []
            for device in image.devices:
                snapshot = self.snapshots.get(device.get("Ebs", {}).get("SnapshotId"))
                told = {part: getattr(snapshot, part) for part in parts} if snapshot else None
                devices.append({**device, "snapshot": told})
            # Their order means nothing.
            permissions = sorted(image.permissions, key=str)
            found.append({field: getattr(image, field) for field in fields} | {"devices": devices, "permissions": permissions})
        return found

    def left(self):
        """What this account owns here."""
        own = [image for image in self.images.values() if image.owner == self.account.number]
        described = {ident for image in own for ident in snapshot_ids(image)}
        snapshots = [item for item in self.snapshots.values() if item.owner == self.account.number and item.id not in described]
        return {"images": own, "snapshots": snapshots}


def snapshot_ids(image):
    return [device["Ebs"]["SnapshotId"] for device in image.devices if device.get("Ebs", {}).get("SnapshotId")]


def permission_changes(parameters, name):
    """What a call adds to and removes from permissions, in both ways of saying it."""
    fields = {"UserId": "userId", "UserGroup": "group", "Group": "group"}
    fields |= {"OrganizationArn": "organizationArn", "OrganizationalUnitArn": "organizationalUnitArn"}
    changes = {"add": [], "remove": []}
    for field, told in fields.items():
        for value in parameters.get(field, []):
            changes[parameters.get("OperationType", "add")].append({told: value})
    for direction, items in parameters.get(name, {}).items():
        changes[direction.lower()] += [{fields[key]: value for key, value in item.items()} for item in items]
    return changes["add"], changes["remove"]


ACTIONS = {name for name in vars(Images) if name[0].isupper()}
