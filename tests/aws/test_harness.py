"""The harness held against what EC2 documents, by boto3: test_harness.py, with the harness at KILN_TEST_AWS."""

import gzip
import json
import os
import secrets
import time
import unittest
import urllib.request
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import boto3
from botocore.exceptions import ClientError

from cloudinit import UserData
from images import STOCK

ENDPOINT = os.environ.get("KILN_TEST_AWS", "")
SOURCE = STOCK[0][0]


class CloudInit(unittest.TestCase):
    def test_parts_and_packed_data(self):
        config = "#cloud-config\nssh_keys:\n  ed25519_private: |\n    one\n    two\n  ed25519_public: ssh-ed25519 AAAA\nruncmd:\n- [echo, a b]\n"
        message = MIMEMultipart()
        message.attach(MIMEText(config, "cloud-config"))
        message.attach(MIMEText("#!/bin/sh\ntrue\n", "x-shellscript"))
        for data in (message.as_bytes(), gzip.compress(message.as_bytes())):
            read = UserData(data)
            self.assertEqual(read.host_keys, {"ssh_host_ed25519_key": "one\ntwo\n", "ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA\n"})
            self.assertEqual(read.scripts, ["#!/bin/sh\necho 'a b'\n", "#!/bin/sh\ntrue\n"])

    def test_what_a_text_begins_with_tells_its_kind(self):
        self.assertEqual(UserData(b"#!/bin/sh\ntrue\n").scripts, ["#!/bin/sh\ntrue\n"])
        self.assertEqual(UserData(b"#cloud-config\nssh_authorized_keys: [a]\n").authorized, ["a"])
        self.assertEqual(len(UserData(b"#cloud-config\n{").problems), 1)
        self.assertEqual(UserData(b"").scripts, [])


class Ec2(unittest.TestCase):
    def setUp(self):
        self.key = "AKIA" + secrets.token_hex(8).upper()
        self.east, self.west = self.client("ec2"), self.client("ec2", "us-west-2")
        self.addCleanup(self.ask, "forget", {})

    def client(self, service, region="us-east-1"):
        return boto3.client(service, endpoint_url=ENDPOINT, region_name=region, aws_access_key_id=self.key, aws_secret_access_key="x")

    def ask(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{ENDPOINT}/_/{self.key}/{what}", data=data, timeout=60) as answer:
            return json.load(answer)

    def refused(self, code, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def run_one(self, **more):
        asked = {"ImageId": SOURCE, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **more}
        ident = self.east.run_instances(**asked)["Instances"][0]["InstanceId"]
        self.wait(lambda: self.state(ident) == "running")
        return ident

    def state(self, ident):
        return self.east.describe_instances(InstanceIds=[ident])["Reservations"][0]["Instances"][0]["State"]["Name"]

    def wait(self, holds):
        end = time.time() + 20
        while not holds():
            self.assertLess(time.time(), end)
            time.sleep(0.05)

    def image(self, client, ident):
        return client.describe_images(ImageIds=[ident])["Images"][0]

    def test_tokens_start_nothing_twice(self):
        asked = {"ImageId": SOURCE, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, "ClientToken": "one"}
        first, second = (self.east.run_instances(**asked)["Instances"][0]["InstanceId"] for _ in range(2))
        self.assertEqual(first, second)
        for name, value in (("client-token", "one"), ("instance-state-name", self.state(first))):
            found = self.east.describe_instances(Filters=[{"Name": name, "Values": [value]}])["Reservations"]
            self.assertEqual([item["Instances"][0]["InstanceId"] for item in found], [first])
            self.assertEqual(self.east.describe_instances(Filters=[{"Name": name, "Values": ["other"]}])["Reservations"], [])
        self.refused("IdempotentParameterMismatch", self.east.run_instances, **{**asked, "InstanceType": "t3.small"})

    def test_groups_are_kept_while_in_use(self):
        group = self.east.create_security_group(GroupName="own", Description="own")["GroupId"]
        ident = self.run_one(SecurityGroupIds=[group])
        self.refused("DependencyViolation", self.east.delete_security_group, GroupId=group)
        self.east.terminate_instances(InstanceIds=[ident])
        self.wait(lambda: self.state(ident) == "terminated")
        self.east.delete_security_group(GroupId=group)
        self.assertEqual(self.ask("left"), {})

    def test_images_tell_their_snapshots_late_and_keep_them(self):
        self.ask("settings", {"lags": {"image": 0.6}})
        ident = self.run_one()
        tags = [{"ResourceType": kind, "Tags": [{"Key": "kind", "Value": kind}]} for kind in ("image", "snapshot")]
        image = self.east.create_image(InstanceId=ident, Name="one", TagSpecifications=tags)["ImageId"]
        self.assertNotIn("SnapshotId", self.image(self.east, image)["BlockDeviceMappings"][0]["Ebs"])
        self.refused("InvalidAMIName.Duplicate", self.east.create_image, InstanceId=ident, Name="one")
        self.wait(lambda: self.image(self.east, image)["State"] == "available")
        snapshot = self.image(self.east, image)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.assertEqual(self.east.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"], tags[1]["Tags"])
        self.refused("InvalidSnapshot.InUse", self.east.delete_snapshot, SnapshotId=snapshot)
        self.east.enable_image_deregistration_protection(ImageId=image)
        self.refused("OperationNotPermitted", self.east.deregister_image, ImageId=image)
        self.east.disable_image_deregistration_protection(ImageId=image)
        self.east.deregister_image(ImageId=image)
        self.assertEqual(self.ask("left")["snapshots"], [snapshot])
        self.east.delete_snapshot(SnapshotId=snapshot)

    def test_copies_are_encrypted_and_tagged_as_told(self):
        image = self.east.create_image(InstanceId=self.run_one(), Name="one")["ImageId"]
        self.wait(lambda: self.image(self.east, image)["State"] == "available")
        tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}]
        asked = {"SourceImageId": image, "SourceRegion": "us-east-1", "Name": "one", "Encrypted": True, "KmsKeyId": "alias/own"}
        copy = self.west.copy_image(**asked, TagSpecifications=tags)["ImageId"]
        told = self.ask("images")["us-west-2"][0]
        self.assertEqual((told["id"], told["tags"]), (copy, {"a": "b"}))
        self.assertTrue(told["devices"][0]["snapshot"]["key"].endswith("alias/own"))
        self.refused("InvalidAMIID.NotFound", self.west.copy_image, **{**asked, "SourceImageId": "ami-0123456789abcdef0", "Name": "two"})

    def test_faults_come_as_often_as_told(self):
        self.ask("settings", {"faults": [{"action": "DescribeVpcs", "times": 2, "code": "RequestLimitExceeded", "status": 503}]})
        self.east.describe_vpcs()
        self.assertEqual([call["status"] for call in self.ask("log")], [503, 503, 200])

    def test_fleets_take_what_has_capacity(self):
        self.ask("settings", {"no_capacity": {"t3.micro": "InsufficientInstanceCapacity"}})
        self.east.create_launch_template(LaunchTemplateName="own", LaunchTemplateData={"ImageId": SOURCE})
        types = [{"InstanceType": kind} for kind in ("t3.micro", "t3.small")]
        told = {"LaunchTemplateSpecification": {"LaunchTemplateName": "own", "Version": "$Latest"}, "Overrides": types}
        target = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
        fleet = self.east.create_fleet(Type="instant", LaunchTemplateConfigs=[told], TargetCapacitySpecification=target)
        self.assertEqual(fleet["Instances"][0]["InstanceType"], "t3.small")
        self.assertEqual(fleet["Errors"][0]["ErrorCode"], "InsufficientInstanceCapacity")

    def test_roles_stay_in_the_account(self):
        arn = f"arn:aws:iam::{self.client('sts').get_caller_identity()['Account']}:role/own"
        given = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="own")["Credentials"]
        names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey", "aws_session_token": "SessionToken"}
        credentials = {name: given[field] for name, field in names.items()}
        client = boto3.client("ec2", endpoint_url=ENDPOINT, region_name="us-east-1", **credentials)
        client.create_security_group(GroupName="own", Description="own")
        self.assertEqual(self.ask("left")["security-groups"], ["own"])


if __name__ == "__main__":
    unittest.main()
