"""The sample that upstream.py and the Python applications answer with."""

import gzip
import hashlib
import os
import pathlib
import time

# A request for /slow makes the file `waiting` in this folder, and is answered once there is a file `release`.
MARKS = pathlib.Path(os.environ.get("MARKS", "."))
TEXT = b"".join(b"%06d\n" % number for number in range(10_000))
COMPRESSED = gzip.compress(TEXT, mtime=0)
GZIP_FIELDS = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
EVENTS = [b"data: %d\n\n" % number for number in range(3)]
CHUNKS = [TEXT[at : at + 7000] for at in range(0, len(TEXT), 7000)]
LIMIT = 1_000_000


def text(condition, wanted):
    """Status, fields and content of /text."""
    fields = {"ETag": '"1"', "Cache-Control": "max-age=60", "Accept-Ranges": "bytes"}
    if condition == '"1"':
        return 304, fields, b""
    if wanted and wanted.startswith("bytes="):
        first, last = map(int, wanted[6:].split("-"))
        return 206, {**fields, "Content-Range": f"bytes {first}-{last}/{len(TEXT)}"}, TEXT[first : last + 1]
    return 200, fields, TEXT


def echo(content):
    return b"%d %s" % (len(content), hashlib.sha256(content).hexdigest().encode())


def wait_for_release():
    (MARKS / "waiting").touch()
    while not (MARKS / "release").exists():
        time.sleep(0.02)
    return TEXT
