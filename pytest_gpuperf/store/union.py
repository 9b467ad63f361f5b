"""Exchange of files between two copies of a store, decided from their names.

Files never change, so the union of both is right, except for deletions: a pruning is a file, too, and names the records
that it deleted. A record that a pruning of either copy names is deleted from both, unless somebody pinned or accepted
it before the pruning could know: a decision about a record outlives a clean-up. No clock decides this.

Two people may accept or unpin the same record, with different reasons. Each side keeps its note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from posixpath import basename, dirname

from pytest_gpuperf.store import layout
from pytest_gpuperf.store.layout import ACCEPTED, PINS, is_record, may_differ
from pytest_gpuperf.store.notes import Pruning
from pytest_gpuperf.store.transfer.soundness import digest_of


@dataclass(frozen=True)
class Union:
    """Paths inside a store, with records before notes, so that no note is ever without its record.

    Attributes:
        to_there: Files that exist only here.
        to_here: Files that exist only there.
        pruned_here: Pruned records that still exist here.
        pruned_there: Pruned records that still exist there.
        differing: Files that exist on both sides with different contents, which is an error.
        known: Number of records on both sides.
    """

    to_there: tuple[str, ...]
    to_here: tuple[str, ...]
    pruned_here: tuple[str, ...]
    pruned_there: tuple[str, ...]
    differing: tuple[str, ...]
    known: int


def unite(here: Mapping[str, str], there: Mapping[str, str], superseded: Iterable[str]) -> Union:
    """Compare two copies of a store.

    Args:
        here, there: Digest of each file's content, by path.
        superseded: Files to delete, as ``superseded`` returns them.
    """
    deleted = set(superseded)
    both = here.keys() & there.keys() - deleted
    return Union(
        to_there=_ordered(here.keys() - there.keys() - deleted),
        to_here=_ordered(there.keys() - here.keys() - deleted),
        pruned_here=_ordered(deleted & here.keys()),
        pruned_there=_ordered(deleted & there.keys()),
        differing=_ordered(path for path in both if here[path] != there[path] and not may_differ(path)),
        known=sum(map(is_record, both)),
    )


def superseded(paths: Iterable[str], prunings: Mapping[str, Pruning]) -> set[str]:
    """Return the records that a pruning supersedes, and the notes about them.

    Args:
        paths: All files of both sides.
        prunings: Prunings, by the path of their file.
    """
    paths = set(paths)
    pruned = {(digest_of(path), record) for path, pruning in prunings.items() for record in pruning.records}
    knowingly = {(digest_of(path), record) for path, pruning in prunings.items() for record in pruning.accepted}
    pins: dict[str | None, list[str]] = defaultdict(list)
    for path in paths:
        if basename(dirname(path)) == PINS:
            pins[digest_of(path)].append(basename(path))
    pinned = {(digest, name) for digest, names in pins.items() for name in layout.pinned_files(names)}
    judgements = {}
    for path in paths:
        if record_file := layout.record_of_judgement(basename(path)):
            judgements[f"{dirname(path)}/{record_file}"] = path
    deleted = set()
    for path in filter(is_record, paths):
        digest, name = digest_of(path), basename(path)
        identity = digest, layout.parse_path(path).id
        unknown_acceptance = path + ACCEPTED in paths and identity not in knowingly
        if identity in pruned and not unknown_acceptance and (digest, name) not in pinned:
            deleted |= {path, path + ACCEPTED, judgements.get(path, path)}
    return deleted & paths


def _ordered(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(paths, key=lambda path: (not is_record(path), path)))
