"""Which records of a key can go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pytest_gpuperf.store.layout import RecordFile


def prunable(
    entries: Sequence[RecordFile], *, keep: int | None = None, older_than: date | None = None
) -> list[RecordFile]:
    """The records that a pruning deletes: all that it names, without those that the gate can't do without.

    What stays in any case is what is pinned, the newest record accepted by hand (the baseline begins with it), the
    newest that may be a baseline, and the newest of all.

    Args:
        entries: of one key, newest first.
        keep: so many of the newest stay.
        older_than: what was measured on this day or later stays.
    """
    kinds = (
        [entry for entry in entries if entry.accepted][:1],
        [entry for entry in entries if entry.may_be_baseline][:1],
        [entry for entry in entries if entry.duet][:1],
        entries[:1],
    )
    needed = {entry.path for kind in kinds for entry in kind}
    return [
        entry
        for index, entry in enumerate(entries)
        if (keep is None or index >= keep)
        and (older_than is None or entry.day < older_than.isoformat())
        and not entry.pinned
        and entry.path not in needed
    ]
