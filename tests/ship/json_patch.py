"""The operations of JSON Patch (RFC 6902) that deploy/kubernetes uses."""


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
