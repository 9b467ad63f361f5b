from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.cost.prices import device_of
from pytest_gpuperf.analysis.device_comparison import DeviceRecord, compare_devices
from pytest_gpuperf.model import Change, DeviceComparison, DevicePoint, Energy, LoadPoint, PlainMapping, Price, Window
from tests.unit.factories import KEY, record

T4 = Price("g4dn.xlarge", "NVIDIA T4", 1, 0.5, "2026-01-01", "a list")
A10G = Price("g5.xlarge", "NVIDIA A10G", 1, 1.0, "2026-01-01", "a list")
ON_T4: PlainMapping = {**KEY, "device": "Tesla T4"}
ON_A10G: PlainMapping = {**KEY, "device": "NVIDIA A10G"}
LEVELS = [(1.00, 2.00), (1.01, 2.02), (0.99, 1.98)]


def device(key: PlainMapping, factor: float = 1.0, **changes: object) -> DeviceRecord:
    runs = [[factor * level for level in run] for run in LEVELS]
    return DeviceRecord(replace(record(runs, key=key, requests=200), **changes))  # type: ignore[arg-type]


def with_energy(
    one: DeviceRecord, gpu_j: float | None, cpu_j: float | None, method: str = "nvml-counter"
) -> DeviceRecord:
    """The same, with windows that tell the GPU's joules for an inference by that method, and the CPU's by RAPL."""

    def told(window: Window, factor: float) -> Window:
        inferences = factor * window.throughput * window.window_s
        kinds = (("gpu", method, gpu_j), ("cpu", "rapl", cpu_j))
        energy = tuple(Energy(source, how, joules * inferences) for source, how, joules in kinds if joules is not None)
        return replace(window, energy=energy)

    runs = tuple(
        replace(run, windows=tuple(told(window, factor) for window in run.windows))
        for run, factor in zip(one.record.runs, (1.0, 1.02, 0.98), strict=True)
    )
    return DeviceRecord(replace(one.record, runs=runs))


def at(compared: DeviceComparison, side: int, point: LoadPoint | None = None) -> DevicePoint:
    (result,) = [one for one in compared.sides[side].points if one.point == point]
    return result


def test_ratios_are_given_per_point_and_per_dollar() -> None:
    compared = compare_devices([device(ON_T4), device(ON_A10G, 0.4)], [T4, A10G])
    first, other = at(compared, 0, LoadPoint(2)), at(compared, 1, LoadPoint(2))
    assert not first.ratios
    assert other.throughput / first.throughput == pytest.approx(2.5, rel=0.01)
    assert other.ratios["throughput"].value == pytest.approx(2.5, rel=0.01)
    assert other.ratios["p90"].value == pytest.approx(0.4, rel=0.01)
    assert other.ratios["inferences_per_usd"].value == pytest.approx(1.25, rel=0.01)
    assert first.usd_per_million is not None
    assert other.usd_per_million is not None
    assert first.usd_per_million / other.usd_per_million == pytest.approx(1.25, rel=0.01)
    for ratio in other.ratios.values():
        assert ratio.low is not None
        assert ratio.high is not None
        assert 0.8 * ratio.value < ratio.low < ratio.value < ratio.high < 1.25 * ratio.value
    assert at(compared, 1).ratios["throughput"].value == pytest.approx(2.5, rel=0.01)
    assert "inferences_per_j" not in other.ratios


def test_devices_without_a_price_have_no_ratio_per_dollar() -> None:
    compared = compare_devices([device(ON_T4), device(ON_A10G, 0.4)], [T4])
    assert at(compared, 0, LoadPoint(1)).usd_per_million is not None
    assert at(compared, 1, LoadPoint(1)).usd_per_million is None
    assert set(at(compared, 1, LoadPoint(1)).ratios) == {"throughput", "p50", "p90"}
    assert (compared.sides[0].price, compared.sides[1].price) == (T4, None)


def test_ratios_are_given_per_joule() -> None:
    compared = compare_devices([with_energy(device(ON_T4), 0.6, 0.2), with_energy(device(ON_A10G), 0.3, 0.1)], [])
    ratio = at(compared, 1, LoadPoint(1)).ratios["inferences_per_j"]
    assert at(compared, 1, LoadPoint(1)).energy_j == pytest.approx(0.4, rel=0.001)
    assert ratio.value == pytest.approx(2.0)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 2.0 < ratio.high
    assert compared.sides[0].notes == ("energy is that of the GPU and the CPU",)


def test_only_energy_sources_that_every_device_has_are_compared() -> None:
    compared = compare_devices([with_energy(device(ON_T4), 0.6, 0.2), with_energy(device(ON_A10G), 0.3, None)], [])
    assert at(compared, 0, LoadPoint(1)).energy_j == pytest.approx(0.6, rel=0.001)
    assert at(compared, 1, LoadPoint(1)).ratios["inferences_per_j"].value == pytest.approx(2.0)
    assert compared.sides[0].notes == ("energy is that of the GPU",)
    compared = compare_devices([with_energy(device(ON_T4), 0.6, 0.2), device(ON_A10G)], [])
    assert at(compared, 0, LoadPoint(1)).energy_j is None
    assert compared.sides[0].notes == ()


def test_energy_of_two_methods_is_not_compared() -> None:
    why = (
        "energy of the GPU is not compared: it was measured by different methods "
        "(Tesla T4: nvml-counter; NVIDIA A10G: nvml-power)"
    )
    compared = compare_devices(
        [with_energy(device(ON_T4), 0.6, None), with_energy(device(ON_A10G), 0.3, None, "nvml-power")], []
    )
    assert at(compared, 1, LoadPoint(1)).energy_j is None
    assert "inferences_per_j" not in at(compared, 1, LoadPoint(1)).ratios
    assert compared.sides[0].notes == (why,)
    compared = compare_devices(
        [with_energy(device(ON_T4), 0.6, 0.2), with_energy(device(ON_A10G), 0.3, 0.1, "nvml-power")], []
    )
    assert at(compared, 1, LoadPoint(1)).energy_j == pytest.approx(0.1, rel=0.001)
    assert compared.sides[0].notes == ("energy is that of the CPU", why)


def test_load_points_of_one_device_alone_are_named() -> None:
    only = DeviceRecord(record([[1.0], [1.0], [1.0]], at=[LoadPoint(16)], key=ON_A10G))
    compared = compare_devices([device(ON_T4), only], [])
    assert [side.points for side in compared.sides] == [(), ()]
    assert compared.sides[1].missing == (
        "only on Tesla T4: serving: concurrency 1, serving: concurrency 2",
        "only on NVIDIA A10G: serving: concurrency 16",
    )


def test_further_differences_are_listed() -> None:
    there = device({**ON_T4, "power_limit_w": 70}, environment={"driver": "550"})
    here = device({**ON_A10G, "power_limit_w": 300}, environment={"driver": "560"})
    assert compare_devices([there, here], []).sides[1].changes == (
        Change("key", "power_limit_w", 70, 300),
        Change("environment", "driver", "550", "560"),
    )


def test_records_of_different_work_are_refused() -> None:
    with pytest.raises(ValueError, match="same work"):
        compare_devices([device(ON_T4), device({**ON_A10G, "version": 2})], [])
    with pytest.raises(ValueError, match="two records"):
        compare_devices([device(ON_T4)], [])


def test_names_devices() -> None:
    assert device_of({"device": "NVIDIA L4", "device_count": 1, "mig_profile": None}) == "NVIDIA L4"
    assert device_of({"device": "NVIDIA L4", "device_count": 2}) == "2 x NVIDIA L4"
    assert device_of({"device": "A100", "mig_profile": "1g.5gb"}) == "A100 1g.5gb"
