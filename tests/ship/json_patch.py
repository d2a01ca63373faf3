"""The operations of JSON Patch (RFC 6902) that deploy/kubernetes uses."""

import pathlib

import yaml

NATIVE_SIDECAR = pathlib.Path("deploy/native-sidecar/kustomization.yaml")


def native_sidecar(deployment):
    """What deploy/native-sidecar makes of it."""
    (patch,) = yaml.safe_load(NATIVE_SIDECAR.read_text())["patches"]
    assert patch["target"]["kind"] == deployment["kind"], patch["target"]
    apply(deployment, yaml.safe_load(patch["patch"]))
    return deployment


def apply(document, operations):
    for operation in operations:
        kind = operation["op"]
        value = pop(document, operation["from"]) if kind == "move" else operation["value"]
        parent, key = find(document, operation["path"])
        if kind == "replace" and key not in parent:
            raise KeyError(operation["path"])
        if isinstance(parent, list):
            parent.insert(key, value)
        else:
            parent[key] = value


def pop(document, path):
    parent, key = find(document, path)
    return parent.pop(key)


def find(document, path):
    *above, last = path.split("/")[1:]
    for part in above:
        document = document[int(part) if isinstance(document, list) else part]
    return document, int(last) if isinstance(document, list) else last
