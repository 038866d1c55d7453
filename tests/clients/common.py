"""What the Python clients have in common: the records to send, their comparison, what is said at the end."""
import os
import time

BROKER = os.environ["BROKER"]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ACKS = [0, 1, "all"]
PARTITIONS = 3
# The time of the first record; each of the others is a millisecond later than the one before.
FIRST = int(time.time() * 1000) - 3_600_000


def records(limit=2000):
    """Key, value and headers of the first lines of the real file."""
    with open(os.environ["INPUT"], "rb") as lines:
        for number, line in zip(range(limit), lines):
            value = line.rstrip(b"\n")
            yield value.split(b" ", 1)[0], value, [("n", str(number).encode()), ("empty", b"")]


def check(sent, read):
    """Everything sent was read, in order for each key."""
    assert len(sent) == len(read), f"{len(sent)} sent, {len(read)} read"
    by_key = lambda rows: {key: [(v, h) for k, v, h in rows if k == key] for key in {r[0] for r in rows}}
    assert by_key(sent) == by_key(read), "what was read is not what was sent"


def done(*operations):
    """Says what was shown, for the matrix."""
    for operation in operations:
        print("did", operation)


ALL = ["create", "describe", "alter", "acks", "codecs", "idempotence", "headers",
       "assign", "offset", "time", "group", "delete-records", "delete"]
