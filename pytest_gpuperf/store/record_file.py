"""The format of a record file.

It is ``{"gpuperf": SCHEMA, "sha256": ..., "record": {...}}``; the digest covers the schema and the record as canonical
JSON.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import SCHEMA, Record
from pytest_gpuperf.model.codec import Mismatch, from_builtins, to_builtins
from pytest_gpuperf.store.key import canonical

REMEDY = "Restore the file, or delete it to continue without this record."


def record_content(record: Record) -> bytes:
    """Serialise a record.

    Raises:
        StoreError: The record holds a number that JSON can't express.
    """
    body = to_builtins(record)
    try:
        data: dict[str, Any] = {"gpuperf": SCHEMA, "sha256": _digest(SCHEMA, body), "record": body}
        return canonical(data).encode()
    except ValueError as error:
        raise StoreError(f"Record {record.id} of {record.test} can't be stored: {error}") from error


def parse_record(content: bytes, where: str) -> Record:
    """Read a record.

    Args:
        where: Name of the file for messages.

    Raises:
        UnreadableRecord: The content is damaged or edited, or has a newer schema.
    """
    try:
        data = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(where, f"is not complete JSON ({error}); was it cut short or edited?", REMEDY) from error
    schema = data.get("gpuperf") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UnreadableRecord(where, "is not a gpuperf record", REMEDY)
    if schema > SCHEMA:
        raise newer_schema(where, schema)
    body = data.get("record")
    try:
        digest = _digest(schema, body)
    except ValueError as error:
        raise UnreadableRecord(where, f"holds a value that no record can hold: {error}", REMEDY) from error
    if data.get("sha256") != digest:
        raise UnreadableRecord(where, "does not match its own checksum; it was damaged or edited", REMEDY)
    try:
        return from_builtins(Record, body)
    except Mismatch as error:
        raise UnreadableRecord(where, f"is not a valid record: {error}", REMEDY) from error


def newer_schema(where: str, schema: int) -> UnreadableRecord:
    """Return the error for a file of a newer version."""
    why = f"has schema {schema}; this version of pytest-gpuperf reads up to {SCHEMA}"
    return UnreadableRecord(where, why, "Upgrade with: pip install --upgrade pytest-gpuperf")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number that a record may hold")


def _digest(schema: int, body: Any) -> str:
    return hashlib.sha256(canonical([schema, body]).encode()).hexdigest()
