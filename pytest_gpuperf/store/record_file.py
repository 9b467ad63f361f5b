"""The format of a record file.

It is ``{"gpuperf": SCHEMA, "sha256": ..., "record": {...}}``; the digest covers both as canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import SCHEMA, Record
from pytest_gpuperf.model.codec import Mismatch, from_builtins, to_builtins
from pytest_gpuperf.store.key import canonical

REMEDY = "Restore the file, or delete it to do without that record."


def document(record: Record) -> dict[str, Any]:
    """What a record's file holds.

    Raises:
        StoreError: it holds a number that JSON has no word for.
    """
    body = to_builtins(record)
    try:
        digest = _digest(SCHEMA, body)
    except ValueError as error:
        raise StoreError(f"Record {record.id} of {record.test} can't be stored: {error}") from error
    return {"gpuperf": SCHEMA, "sha256": digest, "record": body}


def parse(content: bytes, where: str) -> Record:
    """A record file's record.

    Args:
        where: what the file is called in errors.

    Raises:
        UnreadableRecord: it is damaged, tampered with, or newer than this version.
    """
    try:
        data = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(where, f"is not complete JSON ({error}); was it cut short or edited?", REMEDY) from error
    schema = data.get("gpuperf") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UnreadableRecord(where, "is not a gpuperf record", REMEDY)
    if schema > SCHEMA:
        why = f"has schema {schema}; this version of pytest-gpuperf reads up to {SCHEMA}"
        raise UnreadableRecord(where, why, "Upgrade with: pip install --upgrade pytest-gpuperf")
    body = data.get("record")
    try:
        digest = _digest(schema, body)
    except ValueError as error:
        raise UnreadableRecord(where, f"holds what no record can: {error}", REMEDY) from error
    if data.get("sha256") != digest:
        raise UnreadableRecord(where, "does not match its own checksum; it was damaged or edited", REMEDY)
    try:
        return from_builtins(Record, body)
    except Mismatch as error:
        raise UnreadableRecord(where, f"is not a valid record: {error}", REMEDY) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number that a record may hold")


def _digest(schema: int, body: Any) -> str:
    return hashlib.sha256(canonical([schema, body]).encode()).hexdigest()
