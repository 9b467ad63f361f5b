from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_gpuperf.device import Device
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.session.devices import Devices
from pytest_gpuperf.session.settings import read_settings

VISIBLE = "CUDA_VISIBLE_DEVICES"
GPUS = tuple(Device("gpu", "L4", f"GPU-{number}", {"device": "NVIDIA L4"}, index=number) for number in range(2))


@pytest.fixture
def devices(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Devices]:
    """The CPU, by the user's wish."""
    monkeypatch.setenv(VISIBLE, "0,1")
    devices = Devices(read_settings(pytester.parseconfig("--gpuperf", "--gpuperf-device=cpu")), None)
    yield devices
    devices.close()


def test_a_test_is_measured_on_the_device_under_test_unless_it_asks_for_others(devices: Devices) -> None:
    devices.running = "test_b"
    devices.gpu.chooser.use(GPUS)
    assert [device.kind for device in devices.of("test_a")] == ["cpu"]
    assert devices.of("test_b") == devices.current == GPUS
    assert (devices.in_process("test_a"), devices.in_process("test_b")) == ("", "GPU-0")
    assert devices.key("test_a") != devices.key("test_b")
    devices.running = "test_a"
    assert devices.current == (devices.first,)


def test_what_the_process_starts_computes_on_the_device_that_the_user_names(devices: Devices) -> None:
    devices.export()
    assert os.environ[VISIBLE] == ""


def test_auto_leaves_the_environment_as_it_is_on_a_cpu(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "")
    devices = Devices(read_settings(pytester.parseconfig("--gpuperf")), 3)
    devices.first = Device("cpu", "EPYC", "cpu-0", {"device": "CPU EPYC", "cores": 2})
    devices.export()
    assert os.environ[VISIBLE] == ""


def test_targets_may_compute_where_the_test_is_measured(devices: Devices) -> None:
    devices.running = "test_b"
    devices.gpu.chooser.use(GPUS)
    devices.choose("test_b", ["GPU-1"], begun=True)
    assert devices.of("test_b") == GPUS


def test_a_test_that_has_begun_does_not_move(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_gpuperf.session.devices.find_named_devices", lambda _: GPUS)
    with pytest.raises(OptionError, match=r"further target computes on GPU-0.*\nGive each target a test of its own"):
        devices.choose("test_a", ["GPU-0"], begun=True)
    devices.choose("test_a", ["GPU-0"], begun=False)
    assert devices.of("test_a") == GPUS


def test_a_monitor_lasts_as_long_as_the_process(devices: Devices) -> None:
    monitor = devices.monitor("test_a")
    assert devices.monitor("test_b") is monitor
    devices.close()
    devices.close()
    assert devices.monitor("test_a") is not monitor
