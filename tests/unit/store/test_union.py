from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.store import Pruning
from pytest_gpuperf.store.layout import ACCEPTED
from pytest_gpuperf.store.union import Union, superseded, unite

KEY = "nvidia-l4/test-00000000/0123456789ab"
OTHER = "nvidia-l4/test-00000000/ba9876543210"
NAMES = [f"20260101T00000000{number}Z-12345678-s{number}.json" for number in range(5)]


def at(name: str, key: str = KEY) -> str:
    return f"{key}/2026-01-01/{name}"


def pin(name: str, number: int, what: str = "pin", key: str = KEY) -> str:
    return f"{key}/pins/20260102T00000000000{number}Z-abc-{what}-{name}"


def pruning(*records: str, accepted: tuple[str, ...] = ()) -> Pruning:
    return Pruning(records, "ada", "old", "2026-01-05T00:00:00.000+00:00", accepted)


PRUNED = f"{KEY}/pruned/20260105T000000000000Z-abc.json"


def test_records_go_before_what_is_said_of_them() -> None:
    here = dict.fromkeys([pin(NAMES[0], 0), at(NAMES[1]), at(NAMES[0]) + ACCEPTED, at(NAMES[0])], "x")
    union = unite(here, {}, ())
    assert union == Union((at(NAMES[0]), at(NAMES[1]), at(NAMES[0]) + ACCEPTED, pin(NAMES[0], 0)), (), (), (), (), 0)
    assert unite({}, here, ()).to_here == union.to_there


def test_what_differs_goes_nowhere() -> None:
    union = unite({at(NAMES[0]): "a"}, {at(NAMES[0]): "b"}, ())
    assert (union.differing, union.to_here, union.to_there, union.known) == ((at(NAMES[0]),), (), (), 1)


def test_of_acceptances_that_differ_each_side_keeps_its_own() -> None:
    path = at(NAMES[0]) + ACCEPTED
    assert unite({path: "a"}, {path: "b"}, ()) == Union((), (), (), (), (), 0)


def test_a_pruning_is_of_its_key() -> None:
    paths = [at(NAMES[0]), at(NAMES[0], OTHER), at(NAMES[1]), at(NAMES[0]) + ACCEPTED, PRUNED]
    known = {PRUNED: pruning("s0", accepted=("s0",))}
    assert superseded(paths, known) == {at(NAMES[0]), at(NAMES[0]) + ACCEPTED}


def test_records_of_the_first_version_are_pruned_too() -> None:
    old = f"nvidia-l4/0123456789ab/{NAMES[0]}"
    assert superseded([old, PRUNED], {PRUNED: pruning("s0")}) == {old}


def test_what_is_pinned_stays_until_it_is_unpinned() -> None:
    paths = [at(NAMES[0]), pin(NAMES[0], 1), PRUNED]
    assert superseded(paths, {PRUNED: pruning("s0")}) == set()
    assert superseded([*paths, pin(NAMES[0], 1, "unpin")], {PRUNED: pruning("s0")}) == {at(NAMES[0])}
    assert superseded([at(NAMES[0]), pin(NAMES[0], 1, key=OTHER)], {PRUNED: pruning("s0")}) == {at(NAMES[0])}


def test_an_acceptance_that_the_pruning_did_not_know_outlives_it() -> None:
    paths = [at(NAMES[0]), at(NAMES[0]) + ACCEPTED]
    assert superseded(paths, {PRUNED: pruning("s0")}) == set()
    assert superseded(paths, {PRUNED: pruning("s0", accepted=("s0",))}) == set(paths)


def test_of_unpins_that_differ_each_side_keeps_its_own() -> None:
    path = pin(NAMES[0], 1, "unpin")
    assert unite({path: "a"}, {path: "b"}, ()) == Union((), (), (), (), (), 0)


SIDES = st.sets(st.sampled_from([*map(at, NAMES), *(pin(name, 1) for name in NAMES), at(NAMES[0]) + ACCEPTED]))


@given(SIDES, SIDES, st.sets(st.sampled_from(["s0", "s1", "s2"])))
def test_after_an_exchange_both_sides_have_the_same(here: set[str], there: set[str], pruned: set[str]) -> None:
    prunings = {PRUNED: pruning(*pruned)}
    union = unite(dict.fromkeys(here, "x"), dict.fromkeys(there, "x"), superseded(here | there, prunings))
    left = (here | set(union.to_here)) - set(union.pruned_here)
    assert left == (there | set(union.to_there)) - set(union.pruned_there)
    assert left <= here | there
    again = unite(dict.fromkeys(left, "x"), dict.fromkeys(left, "x"), superseded(left, prunings))
    assert (again.to_here, again.to_there, again.pruned_here, again.pruned_there) == ((), (), (), ())
    for path in (here | there) - left:
        assert any(f"-{record}." in path for record in pruned)
