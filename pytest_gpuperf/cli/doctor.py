"""``gpuperf doctor``: whether this machine is fit to measure, and how to make it so."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from pytest_gpuperf.cli.shared_options import number
from pytest_gpuperf.device import noise
from pytest_gpuperf.device.fitness import DOUBTFUL, GOOD, UNFIT, UNKNOWN, Check, host_checks, noise_checks, verdict
from pytest_gpuperf.device.gpu_fitness import device_checks
from pytest_gpuperf.device.host import read_host
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.safe_text import unfiltered
from pytest_gpuperf.targets.triton.launchers import choose_launcher

#: Distributions, and what each is for if it is missing; a distribution without a purpose is required.
_LIBRARIES = {
    "pytest-gpuperf": "",
    "pytest": "",
    "pytest-benchmark": "",
    "numpy": "",
    "scipy": "",
    "tritonclient": "",
    "nvidia-ml-py": "",
    "onnxruntime": "triton_endpoint, onnxruntime_engine: pip install 'pytest-gpuperf[onnxruntime]'",
    "grpcio": "gRPC: pip install 'pytest-gpuperf[grpc]'",
    "tensorrt": "tensorrt_engine: pip install 'pytest-gpuperf[tensorrt]'",
    "cuda-core": "tensorrt_engine: pip install 'pytest-gpuperf[tensorrt]'",
}
_CONCLUSIONS = {
    GOOD: "fit to measure",
    DOUBTFUL: "fit to measure, but noisier than necessary",
    UNFIT: "not fit to measure: a gate on this machine would miss regressions or raise false alarms",
}
_seconds = number(lambda seconds: 1 <= seconds <= 600, "1 to 600 seconds")


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Check the device, the operating system, the noise, the server and the libraries. Exit status: 0 fit, 1 not "
        "fit (with --strict also if a check is doubtful)."
    )
    add = parser.add_argument
    add("--device", default="auto", metavar="DEVICE", help="as --gpuperf-device (default: auto)")
    add("--triton", metavar="SERVER", help="as --gpuperf-triton")
    add("--seconds", type=_seconds, default=10.0, metavar="S", help="seconds of the noise measurement (default: 10)")
    add("--strict", action="store_true", help="exit with status 1 also if a check is doubtful")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    sections: list[tuple[str, Callable[[], list[Check]]]] = [
        ("device", lambda: device_checks(options.device, "--device")),
        ("machine", lambda: host_checks(read_host())),
        ("noise", lambda: noise_checks(noise.measure_noise(options.seconds))),
        ("server", lambda: [_server(options.triton)]),
        ("libraries", _libraries),
    ]
    results: list[tuple[str, list[Check]]] = []
    if not options.json:
        print(f"gpuperf doctor on {platform.node()}, {platform.system()} {platform.release()}")
    for title, run_checks in sections:
        if title == "noise" and not options.json and sys.stderr.isatty():
            print(
                f"\nmeasuring the noise for {options.seconds:g} s ...",
                end="\r",
                file=unfiltered(sys.stderr),
                flush=True,
            )
        checks = run_checks()
        results.append((title, checks))
        if not options.json:
            print("\n".join(_section(title, checks)))
    overall = verdict([check for _, checks in results for check in checks])
    if options.json:
        print(json.dumps(_document(overall, results), indent=2))
    else:
        print(f"\n{_CONCLUSIONS[overall]}")
    return int(overall == UNFIT or (options.strict and overall == DOUBTFUL))


def _document(overall: str, results: Sequence[tuple[str, Sequence[Check]]]) -> dict[str, object]:
    return {
        "gpuperf_doctor": 1,
        "host": platform.node(),
        "verdict": overall,
        "checks": [{"section": title, **asdict(check)} for title, checks in results for check in checks],
    }


def _section(title: str, checks: Sequence[Check]) -> list[str]:
    """Format the checks of one section to the width of the terminal, with the remedy below each that needs one."""
    width = max(min(shutil.get_terminal_size((80, 24)).columns, 120), 60)
    lines = [f"\n{title}"]
    for check in checks:
        head = f"  {check.state:9} {check.name:22} "
        lines += textwrap.wrap(
            check.observed, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
        ) or [head.rstrip()]
        if check.remedy:
            lines += textwrap.wrap(
                f"-> {check.remedy}", width, initial_indent=" " * 12, subsequent_indent=" " * 15, break_on_hyphens=False
            )
    return lines


def _server(wanted: str | None) -> Check:
    """Check for a tritonserver. Callables and engines can be measured without one, so a missing server is doubtful."""
    try:
        launcher = choose_launcher(wanted)
        backends = ", ".join(sorted(launcher.backends()))
        if not backends:
            return Check("tritonserver", UNFIT, f"{launcher.label} has no backend", "name another server with --triton")
        return Check("tritonserver", GOOD, f"{launcher.label} (backends: {backends})")
    except GpuperfError as error:
        first, _, rest = str(error).partition("\n")
        return Check("tritonserver", DOUBTFUL if wanted is None else UNFIT, first, " ".join(rest.split()))


def _libraries() -> list[Check]:
    checks = [Check("Python", GOOD, platform.python_version())]
    for name, purpose in _LIBRARIES.items():
        try:
            checks.append(Check(name, GOOD, version(name)))
        except PackageNotFoundError:
            checks.append(Check(name, UNKNOWN if purpose else UNFIT, "not installed", purpose or f"pip install {name}"))
    return checks
