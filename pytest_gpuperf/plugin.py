"""The pytest plugin: options, the marker and the fixtures; the hooks are registered when they are needed.

Every pytest session of the environment loads this module, whether it uses the plugin or not. So it imports nothing but
pytest, which is loaded already; everything heavy is imported inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_gpuperf.session.fixtures.gpuperf import Gpuperf
    from pytest_gpuperf.session.gpu import Gpu
    from pytest_gpuperf.targets.fleet import TritonFleet, TritonFleetFactory
    from pytest_gpuperf.targets.kserve import KServeEndpoint
    from pytest_gpuperf.targets.onnxruntime import OnnxRuntimeEngine
    from pytest_gpuperf.targets.tensorrt import TensorRTEngine
    from pytest_gpuperf.targets.triton import TritonEndpoint

_MARKER = (
    "gpuperf(min_effect=0.01, version=1, runs=3, metrics=['p50', 'p90'], name='resnet50', benchmark=True): how "
    "--gpuperf measures and gates this test; raise version to begin a new baseline, when the test measures something "
    "else than before; a name keeps the baseline when the test is renamed or moved; benchmark=False leaves what it "
    "measures with pytest-benchmark alone"
)

#: Name, metavar and help. Each is an option --gpuperf-NAME and an ini key gpuperf_NAME.
OPTIONS = (
    ("store", "URL", "where records are kept: a directory or an fsspec URL (default: .gpuperf)"),
    (
        "device",
        "DEVICE",
        "the device under test: auto, cpu, an NVML index, or the UUID of a GPU or MIG slice (default: auto)",
    ),
    (
        "triton",
        "SERVER",
        "the tritonserver that triton_endpoint starts: a path, docker, docker:IMAGE or bundled (default: "
        "$GPUPERF_TRITON, else the first that is available: on PATH, in /opt/tritonserver, docker, bundled)",
    ),
    ("runs", "K", "start and measure each target K times, 2 or more (default: 3)"),
    ("max_runs", "K", "measure an undecided test up to K times, for example 8 (default: --gpuperf-runs)"),
    ("alpha", "SHARE", "accepted probability of a false alarm, over all tests together (default: 5%%)"),
    ("min_effect", "SHARE", "let a test pass if it regressed by no more than this share (default: 1%%)"),
    ("on_inconclusive", "warn|fail", "let an inconclusive test pass with a warning, or fail (default: warn)"),
    (
        "baseline",
        "SPEC",
        "records to compare with: rolling (the newest), pinned, both, a record's id, or commit:SHA (default: both)",
    ),
    (
        "merge_base",
        "REF|auto|none",
        "branch that the measured commit will be merged into: a regression that it already had where the two parted is "
        "inherited, and passes (default: auto, which is CI's base branch, else the remote's default branch)",
    ),
    (
        "key",
        "+FIELD|-FIELD",
        "change what must match for two records to be compared: add a field of the environment "
        "(--gpuperf-key=+driver), or remove a field (--gpuperf-key=-power_limit_w); may be repeated",
    ),
    ("prices", "FILE", "TOML file of machine prices, for the cost in reports (default: a table of list prices)"),
    (
        "report",
        "PATH",
        "write a report at the end, in the format of its ending: .md, .html, .json or .csv; may be repeated",
    ),
)

#: Name and help. Each is a switch --gpuperf-NAME and an ini key gpuperf_NAME that is true or false.
SWITCHES = (
    ("require_baseline", "fail a test that has no comparable baseline"),
    ("anchor", "measure a small fixed workload beside every sweep, to cancel the noise of the machine"),
)
_CLOCKS = "lock the GPU's clocks while measuring; without MHZ, to the highest within its power limit (needs root)"
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
    group.addoption(
        "--gpuperf-lock-clocks",
        dest="gpuperf_lock_clocks",
        metavar="MHZ",
        nargs="?",
        const="tdp",
        help=f"{_CLOCKS}; write --gpuperf-lock-clocks=MHZ",
    )
    parser.addini("gpuperf_lock_clocks", _CLOCKS, default="")
    for name, text in SWITCHES:
        option = f"--gpuperf-{name.replace('_', '-')}"
        group.addoption(option, dest=f"gpuperf_{name}", action="store_const", const="true", help=text)
        parser.addini(f"gpuperf_{name}", text, default="")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_gpuperf import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    names = [*(name for name, *_ in (*OPTIONS, *SWITCHES)), "lock_clocks"]
    given = config.getoption("gpuperf") or any(config.getoption(f"gpuperf_{name}") is not None for name in names)
    if given:
        from pytest_gpuperf.session.hooks import hooks_of

        hooks_of(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show a smoke run whose tests ran in other processes, as with pytest-xdist: this process has no hooks."""
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "gpuperf")]
    if reports and not config.pluginmanager.has_plugin("gpuperf-hooks"):
        from pytest_gpuperf.session.results import Results

        Results.of(reports).write(terminalreporter, config.getoption("verbose"))


@pytest.fixture
def gpuperf(request: pytest.FixtureRequest) -> Gpuperf:
    """Measure targets: ``gpuperf.sweep(target, concurrency=[1, 2, 4])``, ``gpuperf.measure(target)``."""
    from pytest_gpuperf.session.hooks import hooks_of

    return hooks_of(request.config).gpuperf(request.node)


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Gpu:
    """The device under test: ``gpu.kind`` is ``gpu`` or ``cpu``, ``gpu.name`` its model.

    ``gpu(mig="1g.10gb")`` and ``gpu(count=2)`` return other devices, on which the test is then measured.
    """
    from pytest_gpuperf.session.hooks import hooks_of

    return hooks_of(request.config).context.devices.gpu


@pytest.fixture(scope="session")
def triton_endpoint(request: pytest.FixtureRequest) -> type[TritonEndpoint]:
    """Target: a model, an ensemble or a model repository behind a tritonserver that is started for every run."""
    from pytest_gpuperf.session.hooks import hooks_of
    from pytest_gpuperf.session.target_class import with_defaults
    from pytest_gpuperf.targets.triton import TritonEndpoint

    return with_defaults(TritonEndpoint, hooks_of(request.config).context.endpoint_defaults)


@pytest.fixture(scope="session")
def triton_fleet(request: pytest.FixtureRequest) -> TritonFleetFactory:
    """Target: several tritonservers, one for each device, that share one load.

    ``triton_fleet(model, devices=gpu(mig="1g.10gb", count=7), balancer="envoy")``; the device under test by default.
    """
    from pytest_gpuperf.session.hooks import hooks_of
    from pytest_gpuperf.targets.fleet import TritonFleet
    from pytest_gpuperf.targets.triton import TritonEndpoint

    context = hooks_of(request.config).context

    def make(source: Any = None, devices: Any = None, **settings: Any) -> TritonFleet:
        if settings.get("replicas") != 0 and not isinstance(source, TritonEndpoint):
            settings = {"server": context.settings.triton, **settings}
        return TritonFleet.create(source, context.devices.current if devices is None else devices, **settings)

    return make


@pytest.fixture(scope="session")
def kserve_endpoint() -> type[KServeEndpoint]:
    """Target: a model on a KServe v2 server that is running already."""
    from pytest_gpuperf.targets.kserve import KServeEndpoint

    return KServeEndpoint


@pytest.fixture(scope="session")
def onnxruntime_engine() -> type[OnnxRuntimeEngine]:
    """Target: an ONNX model in ONNX Runtime, in this process."""
    from pytest_gpuperf.targets.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine


@pytest.fixture(scope="session")
def tensorrt_engine(request: pytest.FixtureRequest) -> type[TensorRTEngine]:
    """Target: an ONNX model as a TensorRT engine in this process, on the device that the test has chosen."""
    from pytest_gpuperf.session.hooks import hooks_of
    from pytest_gpuperf.session.target_class import with_defaults
    from pytest_gpuperf.targets.tensorrt import TensorRTEngine

    return with_defaults(TensorRTEngine, hooks_of(request.config).context.engine_defaults)
