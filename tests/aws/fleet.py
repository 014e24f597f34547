"""Instant fleets: CreateFleet as RunInstances with what its launch template says, and what capacity refuses."""

from query import Ec2Error, tag


def remember(account, region, parameters):
    """Notes a launch template that moto took."""
    account.templates[region, parameters["LaunchTemplateName"]] = parameters.get("LaunchTemplateData", {})


def template_of(account, region, told, root):
    """A launch template's data by name, or by the id that moto gave it."""
    name = told.get("LaunchTemplateName")
    if name is None:
        for item in root.iter(tag("item")):
            if item.findtext(tag("launchTemplateId")) == told.get("LaunchTemplateId"):
                name = item.findtext(tag("launchTemplateName"))
    if (region, name) not in account.templates:
        raise Ec2Error("InvalidLaunchTemplateName.NotFoundException", "The specified launch template does not exist")
    return account.templates[region, name]


def create(account, region, parameters, run):
    """`run(parameters)` runs instances and gives moto's answer; capacity is what the test says of types."""
    configurations = parameters.get("LaunchTemplateConfigs", [])
    if parameters.get("Type") != "instant":
        raise Ec2Error("InvalidParameterValue", "the harness has instant fleets only")
    root = account.ask(region, "DescribeLaunchTemplates")
    without, errors = account.settings.get("no_capacity") or {}, []
    for configuration in configurations:
        told = configuration["LaunchTemplateSpecification"]
        data = template_of(account, region, told, root)
        for override in configuration.get("Overrides") or [{}]:
            asked = {**data, **{key: value for key, value in override.items() if key in ("InstanceType", "SubnetId", "ImageId")}}
            kind = asked.get("InstanceType", "")
            shown = {"launchTemplateSpecification": {"launchTemplateName": told.get("LaunchTemplateName"), "version": told.get("Version")}}
            shown["overrides"] = {"instanceType": kind, "subnetId": asked.get("SubnetId")}
            if kind in without:
                message = "There is no Spot capacity available that matches your request."
                errors.append({"launchTemplateAndOverrides": shown, "lifecycle": "spot", "errorCode": without[kind], "errorMessage": message})
                continue
            spot = parameters.get("TargetCapacitySpecification", {}).get("DefaultTargetCapacityType") == "spot"
            asked = {key: value for key, value in asked.items() if key != "InstanceMarketOptions"}
            asked["TagSpecification"] = asked.get("TagSpecification", []) + [
                item for item in parameters.get("TagSpecification", []) if item.get("ResourceType") != "fleet"
            ]
            if spot:
                asked["InstanceMarketOptions"] = {"MarketType": "spot"}
            answer = run({**asked, "MinCount": "1", "MaxCount": "1"})
            ids = [item.text for item in answer.iter(tag("instanceId"))][:1]
            made = {"launchTemplateAndOverrides": shown, "lifecycle": "spot" if spot else "on-demand", "instanceIds": ids}
            made["instanceType"] = kind
            return {"fleetId": "fleet-harness", "fleetInstanceSet": [made], "errorSet": errors}
    return {"fleetId": "fleet-harness", "fleetInstanceSet": [], "errorSet": errors}
