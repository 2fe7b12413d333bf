"""UIDs that follow from what an object is made of: the same series, weights and settings give the same, every time.

So a repeated run adds nothing to an archive, and a change of any of them does not hide behind an old UID.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# A name of our own within the UIDs made from UUIDs (2.25), so that no other program's input makes the same.
_NAMESPACE = "gfscreen-uid-1"


@dataclass(frozen=True)
class Identity:
    """What makes the results of one series: sha256 over series, instances, weights, settings and version."""

    digest: str

    def uid(self, what: str) -> str:
        """The UID of an object or a part of one, `2.25.` and up to 39 digits; `what`: `seg`, `sr`, `lesion 3` ..."""
        found = hashlib.sha256(f"{_NAMESPACE}\0{self.digest}\0{what}".encode()).digest()
        # Version and variant bits make it a valid random UUID.
        return f"2.25.{uuid.UUID(bytes=found[:16], version=4).int}"


def identity_of(series_uid: str, instance_uids: Sequence[str], facts: dict[str, Any]) -> Identity:
    """The identity of what is made of a series with these instances, in any order, by what `facts` name."""
    content = json.dumps([series_uid, sorted(instance_uids), facts], sort_keys=True)
    return Identity(hashlib.sha256(content.encode()).hexdigest())


def name_of(series_uid: str) -> str:
    """A name for files and logs that tells nothing about the patient: `series-` and 16 hexadecimal digits."""
    return "series-" + hashlib.sha256(f"{_NAMESPACE}\0{series_uid}".encode()).hexdigest()[:16]
