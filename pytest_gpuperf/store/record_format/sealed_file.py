"""The format of all files of a store.

A file is ``{"gpuperf": SCHEMA, "sha256": ..., LABEL: {...}}``; the digest covers the schema and the labelled object as
canonical JSON. The label is ``record``, or the name of a note.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import SCHEMA
from pytest_gpuperf.store.key import canonical
from pytest_gpuperf.store.layout import LARGEST_BYTES

#: Most objects and lists in a file. A record has about ten for each of its windows, of which a hundred load points with
#: eight runs have a few thousand. JSON of empty lists takes thirty times its size in memory.
_MOST_CONTAINERS = 500_000


def sealed(label: str, body: Any) -> bytes:
    """Serialise an object.

    Raises:
        ValueError: The object holds a value that JSON can't express.
    """
    return canonical({"gpuperf": SCHEMA, "sha256": _digest(SCHEMA, body), label: body}).encode()


def unsealed(content: bytes, label: str, where: str, remedy: str) -> Any:
    """Read an object, and check its digest.

    Args:
        where: Name of the file for messages.
        remedy: What to do about a damaged file.

    Raises:
        UnreadableRecord: The content is damaged or edited, or has a newer schema.
    """
    containers = content.count(b"[") + content.count(b"{")
    if len(content) > LARGEST_BYTES or containers > _MOST_CONTAINERS:
        why = f"has {len(content)} bytes with {containers} lists and objects, more than any {label}"
        raise UnreadableRecord(where, why, remedy)
    try:
        data = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(where, f"is not complete JSON ({error}); was it cut short or edited?", remedy) from error
    schema = data.get("gpuperf") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UnreadableRecord(where, f"is not a gpuperf {label}", remedy)
    if schema > SCHEMA:
        why = f"has schema {schema}; this version of pytest-gpuperf reads up to {SCHEMA}"
        raise UnreadableRecord(where, why, "Upgrade with: pip install --upgrade pytest-gpuperf")
    if label not in data:
        raise UnreadableRecord(where, f"is not a valid {label}: it has none", remedy)
    if _is_as_sealed(content, schema, data.get("sha256"), label):
        return data[label]
    try:
        digest = _digest(schema, data[label])
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(where, f"holds a value that no {label} can hold: {error}", remedy) from error
    if data.get("sha256") != digest:
        raise UnreadableRecord(where, "does not match its own checksum; it was damaged or edited", remedy)
    return data[label]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that a file of a store may hold")


def _is_as_sealed(content: bytes, schema: int, digest: object, label: str) -> bool:
    """Return whether a file is byte for byte as ``sealed`` wrote it, which spares serialising it again."""
    begin, end = f'{{"gpuperf":{schema},"{label}":'.encode(), f',"sha256":"{digest}"}}'.encode()
    if not (content.startswith(begin) and content.endswith(end)):
        return False
    body = memoryview(content)[len(begin) : len(content) - len(end)]
    hasher = hashlib.sha256(f"[{schema},".encode())
    hasher.update(body)
    hasher.update(b"]")
    return hasher.hexdigest() == digest


def _digest(schema: int, body: Any) -> str:
    return hashlib.sha256(canonical([schema, body]).encode()).hexdigest()
