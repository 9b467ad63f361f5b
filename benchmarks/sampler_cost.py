"""The CPU time of the monitor's thread, as a share of a core.

It watches the GPU of the machine; without a GPU, the mock of NVML that the tests compile. The mock answers in almost no
time, so the figure is the cost of the monitor alone. Run from the repository: ``python -m benchmarks.sampler_cost``.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import tempfile
import time
from pathlib import Path

from pytest_gpuperf.device import Monitor, find_devices
from tests.nvml import build

#: Largest accepted share of a core.
LIMIT = 0.01


def cost(monitor: Monitor, seconds: float) -> float:
    """Return the share of a core that the thread takes while it watches this process and the devices."""
    monitor.attach([os.getpid()], None, local=True)
    begin_cpu_s, begin_s = monitor.cpu_s, time.monotonic()
    with monitor.watching():
        time.sleep(seconds)
    return (monitor.cpu_s - begin_cpu_s) / (time.monotonic() - begin_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    if find_devices():
        monitor = Monitor(find_devices()[:1])
        print(f"{find_devices()[0].label}: {cost(monitor, seconds):.2%} of one core")
        monitor.close()
        return
    with tempfile.TemporaryDirectory() as folder:
        ctypes.CDLL(str(build(Path(folder)).library))
        os.environ |= {"MOCK_NVML": "1", "MOCK_NVML_PROCESSES": f"{os.getpid()}:1000000"}
        for unsupported, name in ((False, "counter"), (True, "power readings")):
            # Named after NVML's function.
            os.environ["MOCK_NVML_ERROR_nvmlDeviceGetTotalEnergyConsumption"] = "3" if unsupported else "0"  # noqa: SIM112
            for tick_s in (0.01, 0.02, 0.1):
                os.environ["MOCK_NVML_TICK_S"] = str(tick_s)
                monitor = Monitor(find_devices())
                share = cost(monitor, seconds)
                monitor.close()
                print(f"mock of NVML, {name}, tick {tick_s * 1e3:3.0f} ms: {share:.2%} of one core (limit {LIMIT:.0%})")
    monitor = Monitor([])
    print(f"/proc alone: {cost(monitor, seconds):.2%} of one core")
    monitor.close()


if __name__ == "__main__":
    main()
