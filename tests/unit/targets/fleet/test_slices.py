"""Which device or cores each server gets."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.fleet.slices import DeviceLike, Slice, core_shares, slices_of

MIG = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"


@dataclass(frozen=True)
class Found:
    """As the device layer describes a device."""

    kind: str
    visible: str | None


@given(st.integers(1, 64), st.integers(1, 80))
def test_shares_are_disjoint_and_of_one_size(cores: int, count: int) -> None:
    shares = core_shares(range(cores), count)
    assert len(shares) == count
    assert len({len(share) for share in shares}) == 1
    if count <= cores:
        flat = [core for share in shares for core in share]
        assert len(flat) == len(set(flat)) > cores - count
    else:
        assert {core for share in shares for core in share} == set(range(cores))


def test_devices_one_after_the_other() -> None:
    devices: list[DeviceLike] = [0, "1", "GPU-5ba7", MIG, Found("gpu", MIG), "MIG-GPU-5ba7/1/0"]
    slices = slices_of(devices, None)
    assert [one.visible for one in slices] == ["0", "1", "GPU-5ba7", MIG, MIG, "MIG-GPU-5ba7/1/0"]
    assert all(one.cpus is None for one in slices)
    assert slices_of(devices, 2) == slices[:2]


def test_the_cpu_is_shared_out() -> None:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    assert slices_of((), 1) == slices_of([Found("cpu", None)], 1) == slices_of(["cpu"], None) == (Slice(cpus=cores),)
    assert len(slices_of((), None)) == len(cores)
    assert len(slices_of([Found("cpu", None)], 3)) == 3


@pytest.mark.parametrize(
    ("devices", "replicas", "message"),
    [
        ([0, 1], 3, r"replicas=3 for 2 device\(s\)(?s:.*)named twice gets two servers"),
        ([0, "cpu"], None, "mixes GPUs with the CPU"),
        (["first"], None, "'first' is not a device"),
        ([True], None, "True is not a device"),
        ([-1], None, "-1 is not a device"),
        ([Found("gpu", None)], None, "is not a device"),
        ([1.0], None, "1.0 is not a device"),
        ((), -1, "replicas=-1"),
        ((), True, "replicas=True"),
    ],
)
def test_what_cannot_be_used(devices: list[DeviceLike], replicas: int | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        slices_of(devices, replicas)


def test_labels() -> None:
    slices = (Slice("0"), Slice(MIG), *(Slice(cpus=cpus) for cpus in ((3,), (0, 1), (4, 5, 6, 7), (0, 2, 4))))
    labels = [one.label for one in slices]
    assert labels == ["GPU 0", MIG, "core 3", "cores 0, 1", "cores 4 to 7", "cores 0, 2, 4"]
