"""Which devices a test is given that asks for others."""

from __future__ import annotations

import pytest

from pytest_gpuperf.device import Device
from pytest_gpuperf.session.gpu import DeviceChooser, Gpu

SLICES = tuple(Device("gpu", "A", f"MIG-{n}", {"device": "A"}, mig_profile="1g.10gb", parent="GPU-9") for n in range(3))
GPUS = tuple(Device("gpu", "B", f"GPU-{n}", {"device": "B"}, index=n) for n in range(4))


def chosen(own: Device, number: int | None, *, mig: str | None = None, count: int | None = None) -> list[str]:
    """The ids that a test gets, of which it is measured on all."""
    used: list[Device] = []
    gpu = Gpu.of(own, DeviceChooser(lambda: (*SLICES, *GPUS), used.extend, number))
    found = gpu(mig=mig) if count is None else gpu(mig=mig, count=count)
    assert (found if isinstance(found, tuple) else (found,)) == tuple(used)
    return [one.id for one in used]


@pytest.mark.parametrize("number", range(7))
def test_one_device_of_a_worker_is_its_own(number: int) -> None:
    for mig, among in ((None, GPUS), ("1g.10gb", SLICES)):
        own = among[number % len(among)]
        assert chosen(own, number, mig=mig) == [own.id]


def test_workers_share_out_several_devices_and_those_of_another_kind() -> None:
    assert [chosen(GPUS[n], n, count=2) for n in range(3)] == [
        ["GPU-0", "GPU-1"],
        ["GPU-2", "GPU-3"],
        ["GPU-0", "GPU-1"],
    ]
    assert [chosen(GPUS[n], n, mig="1g.10gb") for n in range(4)] == [["MIG-0"], ["MIG-1"], ["MIG-2"], ["MIG-0"]]


def test_without_workers_the_device_under_test_comes_first() -> None:
    assert chosen(GPUS[2], None) == ["GPU-2"]
    assert chosen(GPUS[2], None, count=3) == ["GPU-2", "GPU-0", "GPU-1"]
    assert chosen(SLICES[1], None, mig="1g.10gb") == ["MIG-1"]
