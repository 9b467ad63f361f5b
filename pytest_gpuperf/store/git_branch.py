"""A store on a branch of a git remote: the same files, in a separate history.

The branch shares no commit with the code. It is fetched and pushed through a separate bare repository, so that the
user's working tree, index, branches and shallow boundary stay as they are. When another runner pushes first, git
refuses the push; then the other files are fetched, and ours are committed on top of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.store.branch import FOREIGN, PATH, Branch, open_branch
from pytest_gpuperf.store.layout import PRUNED, is_record
from pytest_gpuperf.store.notes import Pruning, parse_note
from pytest_gpuperf.store.store import Store
from pytest_gpuperf.store.transfer.soundness import check
from pytest_gpuperf.store.union import Union, superseded, unite

DEFAULT_BRANCH = "gpuperf-baselines"
#: For each refused push another runner's push succeeded, so this many runners may push at once.
MOST_ATTEMPTS = 12
_LONGEST_PAUSE_S = 8.0
#: Files in memory at once during a pull.
_AT_ONCE = 500
_EDITED = "differs from the same file on the other side; records never change, so one of the two was edited"


@dataclass(frozen=True)
class Synced:
    """Result of a push or a pull.

    Attributes:
        branch_missing: Whether the branch did not exist (a push has created it).
        records: Number of records written.
        notes: Number of acceptances, pins, prunings and calibrations written.
        known: Number of records that both sides had.
        deleted: Number of records deleted because the other side pruned them.
        attempts: Number of pushes.
        unreadable: Files that were not copied: damaged, edited or of a newer schema.
    """

    branch_missing: bool = False
    records: int = 0
    notes: int = 0
    known: int = 0
    deleted: int = 0
    attempts: int = 0
    unreadable: tuple[UnreadableRecord, ...] = ()


def push(
    store: Store,
    directory: Path,
    branch: str = DEFAULT_BRANCH,
    remote: str = "origin",
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Synced:
    """Copy the files that a branch lacks from a store onto the branch; create the branch if it does not exist.

    Args:
        pause: Waits for a number of seconds. The other arguments and the errors are those of ``pull``.
    """
    with open_branch(directory, branch, remote) as there:
        here = _Local(store, there)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            union = _union(here, there)
            sound, unreadable = _sound(here, union.to_there)
            unreadable += _differing(here, union)
            if not sound and not union.pruned_there and there.tip:
                return Synced(known=union.known, attempts=attempt - 1, unreadable=tuple(unreadable))
            branch_missing = there.tip is None
            records, deleted = sum(map(is_record, sound)), sum(map(is_record, union.pruned_there))
            notes = len(sound) - records
            if there.push(sound, union.pruned_there, f"Records: {records}, notes: {notes}, pruned: {deleted}"):
                return Synced(branch_missing, records, notes, union.known, deleted, attempt, tuple(unreadable))
            # Runners whose pushes were refused try again at different times.
            pause(random.uniform(0, min(_LONGEST_PAUSE_S, 0.1 * 2**attempt)))
            there.fetch()
    raise StoreError(
        f"Others pushed to {branch} on {there.remote} during each of {MOST_ATTEMPTS} attempts. Push again."
    )


def pull(store: Store, directory: Path, branch: str = DEFAULT_BRANCH, remote: str = "origin") -> Synced:
    """Copy the files that a store lacks from a branch into the store, and delete the records that were pruned there.

    Args:
        directory: A directory inside the checkout that has the remote.
        remote: Name of the remote, or a URL.

    Raises:
        StoreError: The remote can't be reached, the branch is not a store, or the store can't be written.
        OptionError: The name of the branch or remote is invalid.
    """
    with open_branch(directory, branch, remote) as there:
        if there.tip is None:
            return Synced(branch_missing=True)
        here = _Local(store, there)
        union = _union(here, there)
        unreadable = [*there.foreign, *_differing(here, union)]
        written: list[str] = []
        for start in range(0, len(union.to_here), _AT_ONCE):
            sound, damaged = _sound(there, union.to_here[start : start + _AT_ONCE])
            unreadable += damaged
            for path, content in sound.items():
                here.put(path, content)
                written.append(path)
        here.delete(union.pruned_here)
    records, deleted = sum(map(is_record, written)), sum(map(is_record, union.pruned_here))
    return Synced(False, records, len(written) - records, union.known, deleted, 0, tuple(unreadable))


def _union(here: _Local, there: Branch) -> Union:
    sides = (here, there)
    contents: dict[str, bytes] = {}
    paths = here.files.keys() | there.files.keys()
    pruning_paths = [path for path in paths if basename(dirname(path)) == PRUNED]
    for side in sides:
        contents |= side.read(path for path in pruning_paths if path in side.files and path not in contents)
    prunings: dict[str, Pruning] = {}
    for path, content in contents.items():
        with suppress(UnreadableRecord):  # it deletes nothing; the copy reports it
            prunings[path] = parse_note(content, Pruning, path, "")
    return unite(here.files, there.files, superseded(paths, prunings))


def _sound(side: _Local | Branch, paths: Iterable[str]) -> tuple[dict[str, bytes], list[UnreadableRecord]]:
    """Return the contents of the sound files, and the errors of the others."""
    sound, unreadable = {}, []
    for path, content in side.read(paths).items():
        if not PATH.fullmatch(path):
            unreadable.append(UnreadableRecord(side.describe(path), FOREIGN, f"Delete it {side.where}."))
            continue
        try:
            check(content, path, side.describe(path), f"Delete it {side.where}, or restore it.")
        except UnreadableRecord as error:
            unreadable.append(error)
        else:
            sound[path] = content
    return sound, unreadable


def _differing(here: _Local, union: Union) -> list[UnreadableRecord]:
    return [UnreadableRecord(here.describe(path), _EDITED, "Delete the wrong one.") for path in union.differing]


class _Local:
    """The files of a store.

    Attributes:
        files: Git's digest of each file's content, by path.
    """

    where = "from the store"

    def __init__(self, store: Store, branch: Branch) -> None:
        self._store, self._root = store, store.files.root
        self.files: dict[str, str] = {}
        for path in store.paths():
            for content in self.read([path]).values():
                self.files[path] = branch.blob(content)

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of files; a file that was deleted in the meantime is left out."""
        contents = {}
        for path in paths:
            try:
                contents[path] = self._store.files.read(f"{self._root}/{path}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"The store {self._store.url} can't be read: {error}") from error
        return contents

    def put(self, path: str, content: bytes) -> None:
        self._store.files.put(f"{self._root}/{path}", content)

    def delete(self, paths: Iterable[str]) -> None:
        parents = set()
        for path in paths:
            self._store.files.delete(f"{self._root}/{path}")
            parents.add(dirname(path))
        for parent in parents:
            self._store.files.remove_if_empty(f"{self._root}/{parent}")

    def describe(self, path: str) -> str:
        return self._store.describe(f"{self._root}/{path}")
