"""EC2's query protocol: dotted parameters to values and back, values to XML, errors."""

import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
ET.register_namespace("", NAMESPACE)


class Ec2Error(Exception):
    """An error as EC2 answers it."""

    def __init__(self, code, message, status=400):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status

    def xml(self):
        return (
            f"<?xml version='1.0' encoding='UTF-8'?><Response><Errors><Error><Code>{escape(self.code)}</Code>"
            f"<Message>{escape(self.message)}</Message></Error></Errors><RequestID>harness</RequestID></Response>"
        ).encode()


def tag(name):
    """An element's name as ElementTree writes it."""
    return f"{{{NAMESPACE}}}{name}"


def nested(pairs):
    """`{"Filter.1.Name": "a"}` to `{"Filter": [{"Name": "a"}]}`."""
    root = {}
    for name, value in pairs.items():
        parts = name.split(".")
        place = root
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise Ec2Error("InvalidParameterValue", f"{name} is both a value and a structure")
        place[parts[-1]] = value
    return listed(root)


def listed(value):
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [listed(value[key]) for key in sorted(value, key=int)]
    return {key: listed(item) for key, item in value.items()}


def dotted(value, prefix=""):
    """The opposite of `nested`."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = ((str(index), item) for index, item in enumerate(value, 1))
    else:
        return {} if value is None else {prefix: text(value)}
    pairs = {}
    for key, item in items:
        pairs.update(dotted(item, f"{prefix}.{key}" if prefix else key))
    return pairs


def text(value):
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def element(name, value):
    """A value as an element; lists hold `item`s, what is None is left out."""
    if value is None:
        return ""
    if isinstance(value, dict):
        inside = "".join(element(key, item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        inside = "".join(element("item", item) for item in value)
    else:
        inside = escape(text(value))
    return f"<{name}>{inside}</{name}>"


def answer(action, fields):
    """A successful answer."""
    inside = "".join(element(key, value) for key, value in fields.items())
    body = f'<{action}Response xmlns="{NAMESPACE}"><requestId>harness</requestId>{inside}</{action}Response>'
    return ("<?xml version='1.0' encoding='UTF-8'?>" + body).encode()


def tags_of(parameters, resource):
    """The tags that a call's `TagSpecification` gives to one type of resource."""
    found = {}
    for specification in parameters.get("TagSpecification", []):
        if specification.get("ResourceType") == resource:
            found.update({item["Key"]: item.get("Value", "") for item in specification.get("Tag", [])})
    return found


def tag_set(tags):
    return [{"key": key, "value": value} for key, value in tags.items()] or None


def is_true(parameters, name):
    return parameters.get(name, "false").lower() == "true"

