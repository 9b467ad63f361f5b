"""A bounded number of fuzzed inputs; ``python -m tests.fuzz --long`` runs as many as there is time for."""

from __future__ import annotations

import pytest

from tests.fuzz.runs import SLOWEST_S, Fuzzer
from tests.fuzz.targets import Target, targets


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_no_input_from_outside_is_more_than_a_typed_error(target: Target) -> None:
    counts = Fuzzer(target, seed=12).batch(target.bounded)
    assert counts.crashes == {}
    assert counts.slowest_s < SLOWEST_S
