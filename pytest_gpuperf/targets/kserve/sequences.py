"""Sequences of requests to a stateful model: which request carries which data, correlation id and flags.

As perf_analyzer has them: each sequence takes its data from one stream, the streams in turn; its requests are sent one
after the other, the first with the flag of the start, the last with that of the end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.errors import Argument, OptionError

_DEFAULT_LENGTH = 20
#: Most requests that are made only for a variety of lengths and ids.
_MOST_REQUESTS = 20_000
#: Sequences of one slot that differ in length.
_LENGTHS = 16

#: Types of correlation ids in Triton's configuration.
STRING_ID, INTEGER_ID = "TYPE_STRING", "TYPE_UINT64"


@dataclass(frozen=True)
class Sequences:
    """Sequences of requests to a stateful model, such as a model of Triton with ``sequence_batching``.

    Attributes:
        length: Requests of a sequence; when None, as many as its stream of ``input_data`` has items, and 20 for random
            data.
        variation: Largest deviation of the lengths from ``length``, as a share.
        first_id, end_id: Range of the correlation ids, the last excluded; an id is used again after the end of its
            sequence. Without ``end_id``, as many ids as there are different sequences.
        at_once: Sequences at the same time in open loop. In closed loop there are as many as requests in flight.
    """

    length: int | None = None
    variation: float = 0.2
    first_id: int = 1
    end_id: int | None = None
    at_once: int = 4

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 1:
            raise OptionError(f"Sequences(length={self.length}): a sequence has 1 request or more.")
        if not 0 <= self.variation <= 1:
            raise OptionError(f"Sequences(variation={self.variation}): write a share from 0 to 1.")
        if self.first_id < 1 or (self.end_id is not None and self.end_id <= self.first_id):
            raise OptionError(
                f"Sequences(first_id={self.first_id}, end_id={self.end_id}): first_id must be 1 or more, and end_id "
                "above it."
            )
        if self.at_once < 1:
            raise OptionError(f"Sequences(at_once={self.at_once}): write 1 or more.")


@dataclass(frozen=True)
class SequenceStep:
    """A request of a sequence.

    Attributes:
        payload: Number of the payload that it carries.
        correlation_id: Number of its sequence for the server.
        starts, ends: Whether it is the first or the last of its sequence.
    """

    payload: int
    correlation_id: int
    starts: bool
    ends: bool

    def parameters(self, id_type: str) -> dict[str, str | int | bool]:
        """Return the request's parameters in the protocol's sequence extension."""
        identity = str(self.correlation_id) if id_type == STRING_ID else self.correlation_id
        return {"sequence_id": identity, "sequence_start": self.starts, "sequence_end": self.ends}


def plan_sequences(
    sequences: Sequences, streams: Sequence[int], slots: int, *, synthetic: bool, seed: int
) -> list[list[SequenceStep]]:
    """Return the requests of each slot, sequence after sequence; they are sent in a circle.

    Args:
        streams: Stream of each payload, in ascending order.
        slots: Sequences at the same time.
        synthetic: Whether the payloads are random or zero, so that a stream has no length.
        seed: Seed of the lengths.

    Raises:
        OptionError: The range has fewer ids than there are sequences at the same time.
    """
    by_stream: dict[int, list[int]] = {}
    for payload, number in enumerate(streams):
        by_stream.setdefault(number, []).append(payload)
    data = list(by_stream.values())
    available = None if sequences.end_id is None else sequences.end_id - sequences.first_id
    if available is not None and available < slots:
        raise OptionError(
            Argument("end_id"),
            f": {available} correlation ids are too few for {slots} sequences at the same time: allow more of them.",
        )
    varied = (synthetic or sequences.length is not None) and sequences.variation > 0
    base = sequences.length or (_DEFAULT_LENGTH if synthetic else max(map(len, data)))
    wanted = len(data) // math.gcd(len(data), slots) * (_LENGTHS if varied else 1)
    count = max(min(wanted, _MOST_REQUESTS // (slots * base)), -(-len(data) // slots))
    ids = count if available is None else min(count, available // slots)
    lengths = random.Random(seed)
    plan: list[list[SequenceStep]] = [[] for _ in range(slots)]
    for number in range(count):
        for slot in range(slots):
            stream = data[(slot + number * slots) % len(data)]
            length = len(stream)
            if synthetic or sequences.length is not None:
                spread = sequences.variation if varied else 0.0
                length = max(lengths.randint(math.ceil(base * (1 - spread)), math.floor(base * (1 + spread))), 1)
            identity = sequences.first_id + slot + slots * (number % ids)
            plan[slot] += [
                SequenceStep(stream[index % len(stream)], identity, index == 0, index == length - 1)
                for index in range(length)
            ]
    return plan
