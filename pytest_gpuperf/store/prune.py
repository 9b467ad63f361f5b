"""Selection of the records of a key that may be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pytest_gpuperf.store.layout import RecordFile


def prunable(
    files: Sequence[RecordFile], *, keep: int | None = None, older_than: date | None = None
) -> list[RecordFile]:
    """Return the records that a pruning deletes: those that match it and that the gate does not need.

    The gate needs pinned records, the newest record accepted by hand (the baseline begins with it), the newest that may
    be a baseline, the newest duet, and the newest of all. Records that are dated in the future are kept, since their
    order is unknown.

    Args:
        files: The records of one key, newest first.
        keep: Number of the newest records to keep.
        older_than: Day from which on records are kept.
    """
    files = [file for file in files if not file.future]
    newest = (
        [file for file in files if file.accepted][:1],
        [file for file in files if file.may_be_baseline][:1],
        [file for file in files if file.duet][:1],
        files[:1],
    )
    needed = {file.path for kind in newest for file in kind}
    return [
        file
        for index, file in enumerate(files)
        if (keep is None or index >= keep)
        and (older_than is None or file.day < older_than.isoformat())
        and not file.pinned
        and file.path not in needed
    ]
