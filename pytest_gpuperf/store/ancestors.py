"""Records of the main branch that a change is based on, whatever their gates said of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import PlainMapping, Record, Verdict
from pytest_gpuperf.store.layout import RecordFile, cleared
from pytest_gpuperf.store.project.merge_base import MergeBase
from pytest_gpuperf.store.store import Store

#: Newest record files of a key that are listed in search of the commits of the main branch.
MOST_LISTED = 200
#: Further files that are listed once a commit has some: the records of a commit are close together.
_FURTHER = 20
#: Newest records of the merge base to compare with: more would hardly narrow the interval.
MOST_COMPARED = 5
#: Most record files that are read to determine since when a regression holds.
MOST_READ = 20
#: Digits of the commit in the name of a record file.
_DIGITS = 8
_REGRESSED = frozenset({str(Verdict.REGRESSED), str(Verdict.INHERITED)})


@dataclass(frozen=True)
class MergeBaseRecords:
    """The records of the merge base, if they may have regressed.

    Attributes:
        records: Records of the merge base, else of the nearest commit before it that has some; newest first. Empty if
            the newest of them passed its gate: then the change has inherited nothing.
        since: Commit of the first record in succession that has regressed, back from the merge base.
        problem: Why the records are unknown, and what to do; empty if they are known.
    """

    records: tuple[Record, ...] = ()
    since: str = ""
    problem: str = ""


def merge_base_records(
    store: Store, key: PlainMapping, merge_base: MergeBase, *, before: RecordFile | None = None
) -> MergeBaseRecords | None:
    """Return the records of the merge base; None if nothing says that there is one.

    Records of a checkout with uncommitted changes are left out: they say little about their commit.

    Args:
        before: Only records older than this one count.

    Raises:
        StoreError: The store can't be listed.
    """
    if not merge_base.commits:
        return MergeBaseRecords(problem=merge_base.problem) if merge_base.problem else None
    reader = _Reader(store, key, merge_base.commits, before)
    for files in reader.files(_FURTHER):
        if files[0].may_be_baseline:
            return MergeBaseRecords()
        if records := tuple(islice(reader.usable(files), MOST_COMPARED)):
            return MergeBaseRecords(records, reader.since(records[0]))
    return MergeBaseRecords(problem=_problem(merge_base, reader.unreadable))


def _problem(merge_base: MergeBase, unreadable: Iterable[UnreadableRecord]) -> str:
    text = f"no record of the merge base {merge_base.commit[:8]}"
    if len(merge_base.commits) > 1:
        text += f" or of the {len(merge_base.commits) - 1} commits before it"
    names = ", ".join(error.where for error in unreadable)
    return f"{text} can be read: {names}" if names else f"{text} is stored"


class _Reader:
    """Lists and reads the records of some commits.

    Attributes:
        unreadable: Files that can't be read.
    """

    def __init__(self, store: Store, key: PlainMapping, commits: tuple[str, ...], before: RecordFile | None) -> None:
        self._store, self._key, self._commits, self._before = store, key, commits, before
        self.unreadable: list[UnreadableRecord] = []

    def files(self, further: int = MOST_LISTED) -> list[list[RecordFile]]:
        """Return the record files of each commit that has some, those of the newest commit first, each newest first.

        Args:
            further: Number of files that are listed after the first of these commits.
        """
        by_commit: dict[str, list[RecordFile]] = {commit[:_DIGITS]: [] for commit in self._commits}
        remaining = MOST_LISTED
        for file in cleared(self._store.listing(self._store.folder(self._key))):
            older = self._before is None or file.order < self._before.order
            if older and not file.duet and file.commit in by_commit:
                by_commit[file.commit].append(file)
                remaining = min(remaining, further)
            remaining -= 1
            if not remaining:
                break
        return [files for files in by_commit.values() if files]

    def usable(self, files: Iterable[RecordFile]) -> Iterator[Record]:
        """Yield the complete records of the commits themselves."""
        for file in files:
            try:
                record = self._store.read(file)
            except UnreadableRecord as error:
                self.unreadable.append(error)
                continue
            clean = record.environment.get("uncommitted_changes") is not True
            if clean and record.status == "complete" and record.commit in self._commits:
                yield record

    def since(self, nearest: Record) -> str:
        """Return the commit of the first record in succession that has regressed, back from the nearest."""
        since = nearest.commit
        groups = self.files()
        begun = next((number for number, files in enumerate(groups) if nearest.commit.startswith(files[0].commit)), 0)
        for files in groups[begun + 1 :][:MOST_READ]:
            newest = next(self.usable(files), None)
            if newest is None:
                continue
            if newest.may_be_baseline or any(file.accepted for file in files):
                break
            if newest.verdict in _REGRESSED or newest.gate == "suspect":
                since = newest.commit
        return since
