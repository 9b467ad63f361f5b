"""The pytest plugin: declares options, the marker and the fixtures, and registers the rest when it is needed.

This module is loaded in every pytest session of the environment, whether the session uses it or not. It imports
nothing but pytest, which is there already; everything heavy is imported inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_gpuperf.device import Device
    from pytest_gpuperf.session.fixture import Gpuperf
    from pytest_gpuperf.targets.kserve import KServeEndpoint
    from pytest_gpuperf.targets.onnxruntime import OnnxRuntimeEngine
    from pytest_gpuperf.targets.triton import TritonEndpoint

_MARKER = (
    "gpuperf(min_effect=0.01, version=1, runs=3, metrics=['p50', 'p90']): how --gpuperf measures and gates this test; "
    "raise version when the test measures something else than before, to begin a new baseline"
)

#: name, metavar, help. Each is an option --gpuperf-NAME and an ini key gpuperf_NAME.
OPTIONS = (
    ("store", "URL", "where sessions are kept: a directory or an fsspec URL (default: .gpuperf)"),
    ("device", "DEVICE", "the device under test: auto, cpu, an NVML index or a GPU UUID (default: auto)"),
    ("runs", "K", "fresh starts of each target (default: 3)"),
    ("max_runs", "K", "fresh starts while a test is undecided, for example 8 (default: as --gpuperf-runs)"),
    ("alpha", "SHARE", "accepted chance of any false alarm in the whole session (default: 5%%)"),
    ("min_effect", "SHARE", "a regression up to this share is accepted (default: 1%%)"),
    ("on_inconclusive", "warn|fail", "what a comparison that can't decide does (default: warn)"),
    (
        "baseline",
        "SPEC",
        "compare with: both (the newest sessions and the pinned ones), rolling, pinned, a session's id, "
        "or commit:SHA (default: both)",
    ),
    (
        "key",
        "+FIELD|-FIELD",
        "add a field of the environment to what must match, as +driver, or take one out, as "
        "--gpuperf-key=-power_limit_w; may be repeated",
    ),
    ("report", "PATH", "write a report at the end, as its ending says: .md, .html, .json or .csv; may be repeated"),
)

#: name, help. Each is a switch --gpuperf-NAME and an ini key gpuperf_NAME that is true or false.
SWITCHES = (("require_baseline", "a test with no baseline, or none that is comparable, fails"),)
_REPEATED = frozenset({"key", "report"})


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpuperf", "GPU inference performance (pytest-gpuperf)")
    group.addoption(
        "--gpuperf",
        action="store_true",
        help="measure, store, compare with the baseline, and fail the tests that regressed (without it: a smoke run)",
    )
    for name, metavar, text in OPTIONS:
        group.addoption(
            f"--gpuperf-{name.replace('_', '-')}",
            dest=f"gpuperf_{name}",
            metavar=metavar,
            help=text,
            action="append" if name in _REPEATED else "store",
        )
        parser.addini(f"gpuperf_{name}", text.replace("%%", "%"), default="")
    for name, text in SWITCHES:
        option = f"--gpuperf-{name.replace('_', '-')}"
        group.addoption(option, dest=f"gpuperf_{name}", action="store_const", const="true", help=text)
        parser.addini(f"gpuperf_{name}", text, default="")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_gpuperf import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    names = [name for name, *_ in (*OPTIONS, *SWITCHES)]
    given = config.getoption("gpuperf") or any(config.getoption(f"gpuperf_{name}") is not None for name in names)
    if given:
        from pytest_gpuperf.session.state import state_of

        state_of(config)


@pytest.fixture
def gpuperf(request: pytest.FixtureRequest) -> Gpuperf:
    """Measures targets: ``gpuperf.sweep(target, concurrency=[1, 2, 4])``, ``gpuperf.measure(target)``."""
    from pytest_gpuperf.session.state import state_of

    return state_of(request.config).fixture_of(request.node)


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Device:
    """The device under test; ``gpu.kind`` is ``gpu`` or ``cpu``, ``gpu.name`` what it is called."""
    from pytest_gpuperf.session.state import state_of

    return state_of(request.config).device


@pytest.fixture(scope="session")
def triton_endpoint() -> type[TritonEndpoint]:
    """Makes targets: an ONNX model behind a tritonserver that is started for every run."""
    from pytest_gpuperf.targets.triton import TritonEndpoint

    return TritonEndpoint


@pytest.fixture(scope="session")
def kserve_endpoint() -> type[KServeEndpoint]:
    """Makes targets: a model on a KServe v2 server that is already there."""
    from pytest_gpuperf.targets.kserve import KServeEndpoint

    return KServeEndpoint


@pytest.fixture(scope="session")
def onnxruntime_engine() -> type[OnnxRuntimeEngine]:
    """Makes targets: an ONNX model in this process."""
    from pytest_gpuperf.targets.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine
