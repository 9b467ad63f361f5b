"""A store on a branch of a git remote: the same files, in a history of their own.

The branch shares no commit with the code. It is fetched and pushed through a bare repository beside the user's, so that
their working tree, index, branches and shallow boundary stay as they are. When another runner was faster, the push is
refused; then its files are fetched, and ours are put on top of them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.branch import PATH, STRANGE, Branch, opened
from pytest_gpuperf.store.calibration import prior_paths
from pytest_gpuperf.store.layout import ACCEPTED, PRUNED
from pytest_gpuperf.store.soundness import check, check_note
from pytest_gpuperf.store.store import Pruning, Store
from pytest_gpuperf.store.union import Union, is_record, superseded, unite

DEFAULT_BRANCH = "gpuperf-baselines"
#: With each push that is refused another runner's got through, so as many runners may push at once.
MOST_ATTEMPTS = 12
_LONGEST_PAUSE_S = 8.0
#: Files that are held in memory at once on a pull.
_AT_ONCE = 500
_EDITED = "is not what the other side has; records never change, so one of the two was edited"


@dataclass(frozen=True)
class Synced:
    """What a push or a pull did.

    Attributes:
        began: on a push there was no branch before; on a pull there is none yet.
        records: how many were written.
        notes: acceptances, pins, prunings and calibrations that were written.
        known: records that were there already.
        deleted: records that are gone, since the other side has pruned them.
        attempts: how often it was pushed.
        unreadable: damaged, edited or too new; left where they are.
    """

    began: bool = False
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
    """Put what a store has and a branch has not onto the branch; begin the branch where there is none.

    Args:
        directory: inside the checkout whose remote it is.
        remote: its name, or a URL.
        pause: waits for so many seconds.

    Raises:
        StoreError: the remote can't be reached or refuses, or the branch is no store.
        OptionError: the branch can't be called so.
    """
    with opened(directory, branch, remote) as there:
        here = _Local(store, there)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            union = _union(here, there)
            sound, unreadable = _sound(here, union.to_there)
            unreadable += _differing(here, union)
            if not sound and not union.gone_there and there.tip:
                return Synced(known=union.known, attempts=attempt - 1, unreadable=tuple(unreadable))
            began = there.tip is None
            records = sum(map(is_record, sound))
            deleted = sum(map(is_record, union.gone_there))
            if there.push(
                sound, union.gone_there, f"Records: {records}, notes: {len(sound) - records}, pruned: {deleted}"
            ):
                notes = len(sound) - records
                return Synced(began, records, notes, union.known, deleted, attempt, tuple(unreadable))
            # All who were refused come back at different times.
            pause(random.uniform(0, min(_LONGEST_PAUSE_S, 0.1 * 2**attempt)))
            there.fetch()
    raise StoreError(
        f"{branch} on {there.remote} was changed by others during each of {MOST_ATTEMPTS} attempts to push. Push again."
    )


def pull(store: Store, directory: Path, branch: str = DEFAULT_BRANCH, remote: str = "origin") -> Synced:
    """Put what a branch has and a store has not into the store, and delete what was pruned there.

    Args:
        directory: inside the checkout whose remote it is.
        remote: its name, or a URL.

    Raises:
        StoreError: the remote can't be reached, the branch is no store, or the store can't be written.
        OptionError: the branch can't be called so.
    """
    with opened(directory, branch, remote) as there:
        if there.tip is None:
            return Synced(began=True)
        here = _Local(store, there)
        union = _union(here, there)
        unreadable = [*there.strange, *_differing(here, union)]
        written: list[str] = []
        for start in range(0, len(union.to_here), _AT_ONCE):
            sound, damaged = _sound(there, union.to_here[start : start + _AT_ONCE])
            unreadable += damaged
            for path, content in sound.items():
                here.put(path, content)
                written.append(path)
        here.delete(union.gone_here)
    records, deleted = sum(map(is_record, written)), sum(map(is_record, union.gone_here))
    return Synced(False, records, len(written) - records, union.known, deleted, 0, tuple(unreadable))


def _union(here: _Local, there: Branch) -> Union:
    sides = (here, there)
    contents: dict[str, bytes] = {}
    paths = here.files.keys() | there.files.keys()
    wanted = [path for path in paths if path.split("/")[-2] == PRUNED]
    for side in sides:
        contents |= side.read(path for path in wanted if path in side.files and path not in contents)
    prunings = {}
    for path, content in contents.items():
        try:
            prunings[path] = check_note(content, Pruning, "pruning", path, "")
        except UnreadableRecord:
            continue  # it deletes nothing; whoever takes it over names it
    pruned = {record for pruning in prunings.values() for record in pruning.records}
    accepted = [
        path for path in paths if path.endswith(ACCEPTED) and layout.entry_of(path.removesuffix(ACCEPTED)).id in pruned
    ]
    moments: dict[str, str] = {}
    for side in sides:
        for path, content in side.read(path for path in accepted if path in side.files).items():
            moments[path.removesuffix(ACCEPTED)] = _accepted_utc(content)
    return unite(here.files, there.files, superseded(paths, prunings, moments))


def _accepted_utc(content: bytes) -> str:
    try:
        return str(json.loads(content)["acceptance"]["accepted_utc"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _sound(side: _Local | Branch, paths: Iterable[str]) -> tuple[dict[str, bytes], list[UnreadableRecord]]:
    """The contents of those files that are what they should be, and what is wrong with the others."""
    sound, unreadable = {}, []
    for path, content in side.read(paths).items():
        if not PATH.fullmatch(path):
            unreadable.append(UnreadableRecord(side.describe(path), STRANGE, f"Delete it {side.where}."))
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
        files: what git would call their contents, by path.
    """

    where = "from the store"

    def __init__(self, store: Store, branch: Branch) -> None:
        self._store, self._root = store, store.files.root
        self.files: dict[str, str] = {}
        for path in (*prior_paths(store), *store.paths()):
            for content in self.read([path]).values():
                self.files[path] = branch.blob(content)

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Their contents; those that somebody deletes meanwhile are left out.

        Raises:
            StoreError: one can't be read.
        """
        found = {}
        for path in paths:
            try:
                found[path] = self._store.files.read(f"{self._root}/{path}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"The store {self._store.url} can't be read: {error}") from error
        return found

    def put(self, path: str, content: bytes) -> None:
        self._store.files.put(f"{self._root}/{path}", content)

    def delete(self, paths: Iterable[str]) -> None:
        parents = set()
        for path in paths:
            self._store.files.delete(f"{self._root}/{path}")
            parents.add(path.rpartition("/")[0])
        for parent in parents:
            self._store.files.remove_if_empty(f"{self._root}/{parent}")

    def describe(self, path: str) -> str:
        return self._store.describe(f"{self._root}/{path}")
