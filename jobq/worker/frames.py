"""What a worker and a child process say to each other.

Both sides send frames over a socket: a letter, the length, the body. Arguments and results travel as the JSON that is
stored, and nothing is ever pickled.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass

HEAD = struct.Struct(">cI")
RUN = b"R"
"""An Order, from the worker."""
BEGAN = b"B"
"""The order has arrived. This and the rest come from the child."""
ENTRIES = b"E"
"""Progress and log: a JSON list of pairs of kind and data."""
RESULT = b"C"
"""The result of an attempt that completed."""
OUTCOME = b"O"
"""Any other, as `outcome.encode` writes it."""


def frame(kind: bytes, body: bytes) -> bytes:
    return HEAD.pack(kind, len(body)) + body


@dataclass(frozen=True)
class Order:
    """What to run, and for which job."""

    module: str
    qualname: str
    task: str
    job: tuple[str, str, str, int, int]
    """The fields of its Context."""
    memory: int | None
    cpu: float | None

    def encode(self, payload: bytes) -> bytes:
        """A line of JSON, then the payload."""
        return json.dumps(asdict(self)).encode() + b"\n" + payload

    @classmethod
    def decode(cls, body: bytes) -> tuple[Order, bytes]:
        head, _, payload = body.partition(b"\n")
        return cls(**json.loads(head)), payload
