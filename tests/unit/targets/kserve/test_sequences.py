from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.kserve.sequences import STRING_ID, Sequences, SequenceStep, plan_sequences


def split(steps: list[SequenceStep]) -> list[list[SequenceStep]]:
    """Return the sequences of a slot, each of which begins with its start and ends with its end."""
    sequences: list[list[SequenceStep]] = []
    for step in steps:
        if step.starts:
            sequences.append([])
        sequences[-1].append(step)
    for sequence in sequences:
        assert [step.ends for step in sequence] == [False] * (len(sequence) - 1) + [True]
        assert [step.starts for step in sequence] == [True] + [False] * (len(sequence) - 1)
        assert len({step.correlation_id for step in sequence}) == 1
    return sequences


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(1, 9),
    st.none() | st.integers(1, 12),
    st.floats(0, 1),
    st.tuples(st.integers(1, 50), st.none() | st.integers(9, 30)),
)
def test_every_stream_is_sent_and_no_id_is_in_two_slots(
    lengths: list[int], slots: int, length: int | None, variation: float, ids_from: tuple[int, int | None]
) -> None:
    first_id, count = ids_from
    streams = [number for number, size in enumerate(lengths) for _ in range(size)]
    sequences = Sequences(length, variation, first_id, None if count is None else first_id + count)
    plan = plan_sequences(sequences, streams, slots, synthetic=False, seed=1)
    assert len(plan) == slots
    sent: set[int] = set()
    ids: list[set[int]] = []
    for steps in plan:
        ids.append({step.correlation_id for step in steps})
        for sequence in split(steps):
            (stream,) = {streams[step.payload] for step in sequence}
            sent.add(stream)
            first = streams.index(stream)
            wanted = [first + index % lengths[stream] for index in range(len(sequence))]
            assert [step.payload for step in sequence] == wanted
            if length is None:
                assert len(sequence) == lengths[stream]
            else:
                assert length * (1 - variation) - 1e-9 <= len(sequence) <= max(length * (1 + variation), 1) + 1e-9
    assert sent == set(streams)
    assert sum(map(len, ids)) == len(set.union(*ids))
    assert min(set.union(*ids)) >= first_id
    if count is not None:
        assert max(set.union(*ids)) < first_id + count


def test_random_data_make_sequences_of_twenty_on_average() -> None:
    lengths = [
        len(part) for steps in plan_sequences(Sequences(), [0], 4, synthetic=True, seed=0) for part in split(steps)
    ]
    assert 18 <= sum(lengths) / len(lengths) <= 22
    assert 16 <= min(lengths) < max(lengths) <= 24
    fixed = plan_sequences(Sequences(variation=0), [0], 1, synthetic=True, seed=0)
    assert {len(part) for part in split(fixed[0])} == {20}


def test_many_sequences_at_once_need_little_memory() -> None:
    plan = plan_sequences(Sequences(), [0], 1024, synthetic=True, seed=0)
    assert sum(map(len, plan)) < 30_000


def test_parameters_have_the_type_of_the_id() -> None:
    step = SequenceStep(0, 7, True, False)
    assert step.parameters("TYPE_UINT64") == {"sequence_id": 7, "sequence_start": True, "sequence_end": False}
    assert step.parameters(STRING_ID)["sequence_id"] == "7"


@pytest.mark.parametrize(
    "settings", [{"length": 0}, {"variation": 1.5}, {"first_id": 0}, {"first_id": 3, "end_id": 3}, {"at_once": 0}]
)
def test_settings_that_can_not_be_sent(settings: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"Sequences.*{next(iter(settings))}"):
        Sequences(**settings)
