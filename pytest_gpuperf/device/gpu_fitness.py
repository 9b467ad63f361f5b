"""Whether the device under test is fit to be measured, and how its energy can be read."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_gpuperf.device.device import Device, find_device
from pytest_gpuperf.device.fitness import DOUBTFUL, GOOD, UNFIT, UNKNOWN, Check
from pytest_gpuperf.device.nvml import Handle, Nvml
from pytest_gpuperf.device.processes import describe
from pytest_gpuperf.errors import DeviceError

#: Idle GPUs are cooler; from this temperature on, most lower their clocks under load.
_HOT_C = 80.0
#: Causes of lowered clocks, with remedies.
_REMEDIES = {
    "sw_power_cap": "power limit reached; raise it: sudo nvidia-smi -i {index} -pl WATTS",
    "hw_slowdown": "heat or power supply: check the cooling, then run nvidia-smi -q -i {index} -d PERFORMANCE",
    "sync_boost": "clocks tied to other GPUs: nvidia-smi boost-slider",
    "sw_thermal": "heat: check the cooling, or lower the power: sudo nvidia-smi -i {index} -pl WATTS",
    "hw_thermal": "heat: check the cooling before you measure",
    "power_brake": "the power supply demands it: check the supply",
}


def device_checks(wanted: str = "auto", option: str = "--gpuperf-device") -> list[Check]:
    """Check the device that would be measured; see ``find_device`` for the arguments."""
    checks: list[Check] = []
    try:
        device = find_device(wanted, option=option)
        checks.append(Check("device", GOOD, device.label + (f"; {device.note}" if device.note else "")))
        if device.kind == "gpu":
            with Nvml() as nvml:
                checks.extend(_gpu_checks(nvml.find(device.id), nvml))
        checks.append(_energy(device))
    except DeviceError as error:
        # A GPU may be lost between two readings; the checks before that are still reported.
        first, _, rest = str(error).partition("\n")
        return [*checks, Check("device", UNFIT, first, " ".join(rest.split()) or "check it with nvidia-smi")]
    return checks


def _gpu_checks(handle: Handle, nvml: Nvml) -> Iterator[Check]:
    index, setup = handle.index, handle.setup
    yield Check("driver", GOOD, f"{nvml.driver}, CUDA up to {nvml.cuda or 'unknown'}")
    persistence = _switch("persistence mode", setup["persistence"])
    if setup["persistence"] is False:
        why = "off: the driver unloads between runs, which resets clocks and the energy counter"
        persistence = Check(persistence.name, DOUBTFUL, why, f"sudo nvidia-smi -i {index} -pm 1")
    yield persistence
    yield _switch("ECC", setup["ecc"])
    yield _link(setup["pcie_generation"], setup["pcie_width"])
    reasons = handle.throttle_reasons
    clock = f"{_number(handle.sm_clock_mhz)} of at most {_number(handle.max_sm_clock_mhz)} MHz"
    if reasons is None:
        yield Check("clocks", UNKNOWN, f"{clock}; this GPU does not report whether they are lowered")
    elif reasons:
        remedies = "; ".join(_REMEDIES.get(reason, reason).format(index=index) for reason in reasons)
        yield Check("clocks", UNFIT, f"lowered now: {', '.join(reasons)}", remedies)
    else:
        yield Check("clocks", GOOD, clock)
    temperature = handle.temperature_c
    if temperature is not None:
        hot = temperature >= _HOT_C
        remedy = "let it cool down, and check the cooling" if hot else ""
        yield Check("temperature", DOUBTFUL if hot else GOOD, f"{temperature:.0f} degrees C", remedy)
    yield _tenants(handle)


def _switch(name: str, on: bool | int | None) -> Check:
    return Check(name, UNKNOWN, "not reported by this GPU") if on is None else Check(name, GOOD, "on" if on else "off")


def _link(generation: bool | int | None, width: bool | int | None) -> Check:
    if generation is None or width is None:
        return Check("PCIe link", UNKNOWN, "not reported by this GPU")
    observed = f"generation {generation} x{width}"
    # The generation drops while a GPU is idle; the number of lanes does not.
    if width < 8:
        return Check("PCIe link", DOUBTFUL, observed, "few lanes: check the slot and the riser")
    return Check("PCIe link", GOOD, observed)


def _tenants(handle: Handle) -> Check:
    processes = handle.processes
    if processes is None:
        return Check("co-tenants of the GPU", UNKNOWN, "not reported by this GPU")
    if not processes:
        return Check("co-tenants of the GPU", GOOD, "none")
    return Check(
        "co-tenants of the GPU",
        UNFIT,
        describe(process.pid for process in processes),
        f"end them, or choose another GPU with --gpuperf-device (see: nvidia-smi -i {handle.index})",
    )


def _energy(device: Device) -> Check:
    if device.energy_method:
        return Check("energy source", GOOD, device.energy_method)
    if device.kind == "gpu":
        return Check("energy source", UNKNOWN, "this GPU reports neither energy nor power")
    remedy = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj, if the machine has RAPL (few VMs do)"
    return Check("energy source", UNKNOWN, "no readable RAPL counter on this machine", remedy)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"
