"""What two copies of a store have to give each other, decided from names.

Files never change, so the union of both is right, but for what was deleted: a pruning is a file, too, and names the
records that it deleted. A record that a pruning of either copy names is deleted from both, unless somebody pinned it,
or accepted it after the pruning, without knowing of it: what people said of a record outlives a clean-up.

Two people may accept the same record, each with their own reason. That it is accepted is the same on both sides, so
each side keeps its own acceptance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_gpuperf.store import layout
from pytest_gpuperf.store.layout import ACCEPTED, PINS, PRUNED
from pytest_gpuperf.store.soundness import digest_of
from pytest_gpuperf.store.store import Pruning


@dataclass(frozen=True)
class Union:
    """Paths inside a store, sorted so that whoever writes in this order never has a note without its record.

    Attributes:
        to_there: only here.
        to_here: only there.
        gone_here: pruned, and still here.
        gone_there: pruned, and still there.
        differing: on both sides with another content, which no two files of a store have but acceptances.
        known: record files on both sides.
    """

    to_there: tuple[str, ...]
    to_here: tuple[str, ...]
    gone_here: tuple[str, ...]
    gone_there: tuple[str, ...]
    differing: tuple[str, ...]
    known: int


def unite(here: Mapping[str, str], there: Mapping[str, str], superseded: Iterable[str]) -> Union:
    """What each side lacks, and what is to go.

    Args:
        here, there: a digest of the content, by path.
        superseded: what ``superseded`` found.
    """
    gone = set(superseded)
    both = here.keys() & there.keys() - gone
    return Union(
        to_there=_ordered(here.keys() - there.keys() - gone),
        to_here=_ordered(there.keys() - here.keys() - gone),
        gone_here=_ordered(gone & here.keys()),
        gone_there=_ordered(gone & there.keys()),
        differing=_ordered(path for path in both if here[path] != there[path] and not path.endswith(ACCEPTED)),
        known=sum(map(is_record, both)),
    )


def superseded(paths: Iterable[str], prunings: Mapping[str, Pruning], accepted_utc: Mapping[str, str]) -> set[str]:
    """The record files that were pruned, and the acceptances beside them.

    Args:
        paths: all files of both sides.
        prunings: by the path of their file.
        accepted_utc: when, by the path of the record file.
    """
    paths = list(paths)
    pruned_utc: dict[tuple[str | None, str], str] = {}
    for path, pruning in prunings.items():
        for record in pruning.records:
            which = digest_of(path), record
            pruned_utc[which] = max(pruned_utc.get(which, ""), pruning.at_utc)
    pins: dict[str | None, list[str]] = defaultdict(list)
    for path in paths:
        if path.split("/")[-2] == PINS:
            pins[digest_of(path)].append(path.rpartition("/")[2])
    pinned = {(digest, name) for digest, names in pins.items() for name in layout.pinned_files(names)}
    gone = set()
    for path in filter(is_record, paths):
        digest, name = digest_of(path), path.rpartition("/")[2]
        at_utc = pruned_utc.get((digest, layout.entry_of(path).id))
        if at_utc and (digest, name) not in pinned and accepted_utc.get(path, "") <= at_utc:
            gone |= {path, path + ACCEPTED}
    return gone & set(paths)


def is_record(path: str) -> bool:
    """Whether a file of a store is a record."""
    return path.split("/")[-2] not in (PINS, PRUNED) and layout.is_record(path.rpartition("/")[2])


def _ordered(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(paths, key=lambda path: (not is_record(path), path)))
