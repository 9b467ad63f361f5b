from __future__ import annotations

import numpy as np
import pytest

from pytest_gpuperf.analysis.changepoint import change_points
from pytest_gpuperf.analysis.suite.device_levels import device_effects

RUNNERS = ["A"] * 20 + ["B"] * 20
MIXED = [name for pair in zip("ABBABAABBA" * 2, "BABAABABAB" * 2, strict=True) for name in pair]


def history(seed: int, devices: list[str], *, at: int = 40, change: float = 0.08, sd: float = 0.01) -> list[float]:
    """Logs of records on device A and on B, which is 6% slower; the code is slower from record ``at`` on."""
    noise = np.random.default_rng(seed).normal(0, sd, len(devices))
    effects = [0.06 if device == "B" else 0.0 for device in devices]
    steps = [change if index >= at else 0.0 for index in range(len(devices))]
    return [float(value) for value in np.array(effects) + steps + noise]


def test_a_change_of_runner_is_no_change_of_level() -> None:
    marked = sum(bool(device_effects(history(seed, RUNNERS), RUNNERS)[1]) for seed in range(20))
    assert len(change_points(history(0, RUNNERS))) == 1  # without devices it is one
    assert marked <= 1


@pytest.mark.parametrize("devices", [RUNNERS, MIXED], ids=["in turn", "mixed"])
@pytest.mark.parametrize("at", [10, 30])
def test_a_change_of_the_code_is_marked_where_it_happens(devices: list[str], at: int) -> None:
    for seed in range(5):
        effects, changes = device_effects(history(seed, devices, at=at), devices)
        # As in the same history on a single device.
        assert [change.index for change in changes] == [
            change.index for change in change_points(history(seed, ["A"] * 40, at=at))
        ]
        assert changes[-1].after - changes[-1].before == pytest.approx(0.08, abs=0.03)
        assert effects[-1] == 0.0  # shown as on the device of the newest record
        assert np.ptp(effects) == pytest.approx(0.06, abs=0.02)


def test_one_device_or_none_known_changes_nothing() -> None:
    values = history(0, ["A"] * 40, at=20)
    effects, changes = device_effects(values, [""] * 40)
    assert not effects.any()
    assert changes == change_points(values)
