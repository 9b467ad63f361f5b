"""Records as files (``sealed_file`` describes the format)."""

from __future__ import annotations

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.model.codec import from_builtins, to_builtins
from pytest_gpuperf.store.layout import LARGEST_BYTES
from pytest_gpuperf.store.record_format.bounds import check_bounds
from pytest_gpuperf.store.record_format.sealed_file import sealed, unsealed

REMEDY = "Restore the file, or delete it to continue without this record."
_LABEL = "record"


def record_content(record: Record) -> bytes:
    """Serialise a record.

    Raises:
        StoreError: The record holds a value that no record file can hold.
    """
    try:
        check_bounds(record)
        content = sealed(_LABEL, to_builtins(record))
    except ValueError as error:
        raise StoreError(f"Record {record.id} of {record.test} can't be stored: {error}") from error
    if len(content) > LARGEST_BYTES:
        raise StoreError(
            f"Record {record.id} of {record.test} can't be stored: it has {len(content)} bytes, more than "
            f"{LARGEST_BYTES}. Measure fewer load points or runs in one test."
        )
    return content


def parse_record(content: bytes, where: str) -> Record:
    """Read a record.

    Args:
        where: Name of the file for messages.

    Raises:
        UnreadableRecord: The content is damaged or edited, or has a newer schema.
    """
    body = unsealed(content, _LABEL, where, REMEDY)
    try:
        record = from_builtins(Record, body)
        check_bounds(record)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(where, f"is not a valid record: {error}", REMEDY) from error
    return record
