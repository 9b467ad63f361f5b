"""Whether the device under test is fit to be measured, and where its energy can be read."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_gpuperf.device.device import Device, find_device
from pytest_gpuperf.device.fitness import DOUBTFUL, GOOD, UNFIT, UNKNOWN, Check
from pytest_gpuperf.device.nvml import Handle, Nvml
from pytest_gpuperf.device.processes import describe
from pytest_gpuperf.errors import DeviceError

#: Idle GPUs are cooler; from here on most begin to lower their clocks as soon as they work.
_HOT_C = 80.0
#: Why a GPU lowers its clocks, and what helps.
_REMEDIES = {
    "sw_power_cap": "its power limit; a higher one: sudo nvidia-smi -i {index} -pl WATTS",
    "hw_slowdown": "heat or its power supply: look at its cooling, then nvidia-smi -q -i {index} -d PERFORMANCE",
    "sync_boost": "clocks tied to those of other GPUs: nvidia-smi boost-slider",
    "sw_thermal": "heat: look at its cooling, or lower its power: sudo nvidia-smi -i {index} -pl WATTS",
    "hw_thermal": "heat: look at its cooling before anything is measured",
    "power_brake": "the machine's power supply asked for it: look at the supply",
}


def device_checks(wanted: str = "auto") -> list[Check]:
    """The device that would be measured; an error is a finding."""
    checks: list[Check] = []
    try:
        device = find_device(wanted)
        checks.append(Check("device", GOOD, device.label + (f"; {device.note}" if device.note else "")))
        if device.kind == "gpu":
            with Nvml() as nvml:
                checks.extend(_gpu_checks(nvml.find(device.id), nvml))
        checks.append(_energy(device))
    except DeviceError as error:
        # A GPU may be lost between two of its readings: what was found until then is told all the same.
        first, _, rest = str(error).partition("\n")
        return [*checks, Check("device", UNFIT, first, " ".join(rest.split()) or "look at it with nvidia-smi")]
    return checks


def _gpu_checks(handle: Handle, nvml: Nvml) -> Iterator[Check]:
    index, setup = handle.index, handle.setup
    yield Check("driver", GOOD, f"{nvml.driver}, CUDA up to {nvml.cuda or 'unknown'}")
    yield _switch(
        "persistence mode",
        setup["persistence"],
        good=True,
        remedy=f"sudo nvidia-smi -i {index} -pm 1",
        why="off: the driver unloads between runs, and clocks and the energy counter begin anew",
    )
    yield _switch("ECC", setup["ecc"], good=None)
    yield _link(setup["pcie_generation"], setup["pcie_width"])
    reasons = handle.throttle_reasons
    clock = f"{_number(handle.sm_clock_mhz)} of at most {_number(handle.max_sm_clock_mhz)} MHz"
    if reasons is None:
        yield Check("clocks", UNKNOWN, f"{clock}; whether they are lowered is not told by this GPU")
    elif reasons:
        remedies = "; ".join(_REMEDIES.get(reason, reason).format(index=index) for reason in reasons)
        yield Check("clocks", UNFIT, f"lowered just now: {', '.join(reasons)}", remedies)
    else:
        yield Check("clocks", GOOD, clock)
    temperature = handle.temperature_c
    if temperature is not None:
        hot = temperature >= _HOT_C
        remedy = "let it cool down, and look at its cooling" if hot else ""
        yield Check("temperature", DOUBTFUL if hot else GOOD, f"{temperature:.0f} degrees C", remedy)
    yield _tenants(handle)


def _switch(name: str, on: bool | int | None, *, good: bool | None, remedy: str = "", why: str = "off") -> Check:
    if on is None:
        return Check(name, UNKNOWN, "not told by this GPU")
    if good is None or bool(on) == good:
        return Check(name, GOOD, "on" if on else "off")
    return Check(name, DOUBTFUL, why, remedy)


def _link(generation: bool | int | None, width: bool | int | None) -> Check:
    if generation is None or width is None:
        return Check("PCIe link", UNKNOWN, "not told by this GPU")
    found = f"generation {generation} x{width}"
    # The generation drops while a GPU idles; lanes don't.
    if width < 8:
        return Check("PCIe link", DOUBTFUL, found, "few lanes: look at the slot and the riser")
    return Check("PCIe link", GOOD, found)


def _tenants(handle: Handle) -> Check:
    processes = handle.processes
    if processes is None:
        return Check("co-tenants of the GPU", UNKNOWN, "not told by this GPU")
    if not processes:
        return Check("co-tenants of the GPU", GOOD, "none")
    return Check(
        "co-tenants of the GPU",
        UNFIT,
        describe(one.pid for one in processes),
        f"end them, or choose another GPU with --gpuperf-device (see: nvidia-smi -i {handle.index})",
    )


def _energy(device: Device) -> Check:
    if device.energy_method:
        return Check("energy source", GOOD, device.energy_method)
    if device.kind == "gpu":
        return Check("energy source", UNKNOWN, "this GPU tells neither energy nor power")
    remedy = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj, where there is RAPL (few virtual machines)"
    return Check("energy source", UNKNOWN, "no readable RAPL counter on this machine", remedy)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"
