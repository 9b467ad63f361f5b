"""Every optional library, in an environment without it: an error that says what to install, and no traceback."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import pytest_gpuperf

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(pytest_gpuperf.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]

#: Top-level modules of the dependencies.
REQUIRED = {
    *(
        "pytest",
        "_pytest",
        "pluggy",
        "pytest_benchmark",
        "numpy",
        "scipy",
        "tritonclient",
        "gevent",
        "pynvml",
        "fsspec",
    ),
    *("httptools", "tomli"),
}
#: Top-level modules of the extras, and a command or a test's body that needs them. fsspec imports those of buckets;
#: ``distributed`` is imported by users, who pass its executor.
OPTIONAL: dict[str, tuple[str, Sequence[str] | str]] = {
    "onnxruntime": ("onnxruntime", "gpuperf.sweep(onnxruntime_engine('m.onnx'))"),
    "grpc": ("grpc", ("sweep", "-m", "m", "-i", "grpc", "-u", "localhost:1")),
    "google": ("grpc", "gpuperf.sweep(kserve_endpoint('grpc://localhost:1', 'm'))"),
    "hpack": ("grpc", "from pytest_gpuperf.load.grpc_request import hpack_decoder; hpack_decoder()"),
    "tensorrt": ("tensorrt", "gpuperf.sweep(tensorrt_engine('m.onnx', library='tensorrt'))"),
    "tensorrt_rtx": ("tensorrt-rtx", "gpuperf.sweep(tensorrt_engine('m.onnx', library='tensorrt-rtx'))"),
    "cuda": (
        "tensorrt",
        "from pytest_gpuperf.targets.tensorrt.cuda_device import open_gpu; open_gpu('run', 'tensorrt')",
    ),
    "onnx": ("tensorrt", "from pytest_gpuperf.targets.tensorrt.onnx_file import OnnxFile; OnnxFile(MODEL).digest"),
    "onnxconverter_common": ("tensorrt", ""),  # with a real model in test_onnx_file.py
    "envoy": ("envoy", "gpuperf.sweep(triton_fleet('m.py', replicas=2, balancer='envoy', **TENSORS))"),
    "s3fs": ("s3", ("baseline", "list", "--store", "s3://bucket/store")),
    "gcsfs": ("gs", ("baseline", "list", "--store", "gs://bucket/store")),
}
#: Modules that another optional module brings along.
ALONG = {"botocore", "aiohttp", "typing_extensions"}
#: Extras that the package itself does not import.
OF_USERS = {"distributed", "examples", "all"}


def imported() -> set[str]:
    """Return the top-level modules that the package imports."""
    modules = set()
    for path in PACKAGE.rglob("*.py"):
        if "python_backend" in path.parts:  # runs inside Triton
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Call) and re.search("'(import_extra|import_module)'", ast.dump(node.func)):
                modules |= {
                    argument.value.split(".")[0]
                    for argument in node.args[:1]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                }
    return modules - set(sys.stdlib_module_names) - {"pytest_gpuperf"}


def test_every_optional_module_is_in_the_table() -> None:
    assert imported() - REQUIRED - OPTIONAL.keys() - ALONG == set()
    assert {extra for extra, _ in OPTIONAL.values()} | OF_USERS == set(PROJECT["optional-dependencies"])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """Makes environments in which a module can't be imported."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in os.environ['BLOCKED'].split(','):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    path = os.pathsep.join([str(folder), str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    return lambda module: {
        **os.environ,
        "PYTHONPATH": path,
        "BLOCKED": module,
        "PATH": "/usr/bin:/bin",
    }


def run(arguments: Sequence[str], env: dict[str, str], directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=env,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


COMMANDS = {module: use for module, (_, use) in OPTIONAL.items() if not isinstance(use, str)}


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_says_what_to_install(
    module: str, environment: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    output = run(["pytest_gpuperf.cli.main", *COMMANDS[module]], environment(module), tmp_path)
    assert f"pip install 'pytest-gpuperf[{OPTIONAL[module][0]}]'" in output


def test_pytest_says_what_to_install(environment: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    uses = {module: (extra, use) for module, (extra, use) in OPTIONAL.items() if isinstance(use, str) and use}
    fixtures = "gpuperf, onnxruntime_engine, kserve_endpoint, tensorrt_engine, triton_fleet"
    suite = "from pathlib import Path\nMODEL = Path(__file__).with_name('m.onnx')\n"
    suite += "TENSORS = dict(input_tensors={'x': 'FP32[1]'}, output_tensors={'y': 'FP32[1]'})\n"
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "m.py").write_text("def run(x):\n    return x\n")
    suite += "".join(f"def test_{module}({fixtures}):\n    {use}\n" for module, (_, use) in uses.items())
    (tmp_path / "test_suite.py").write_text(suite)
    blocked = ",".join(uses)
    output = run(["pytest", "-q", "-p", "no:benchmark", "-p", "no:cacheprovider"], environment(blocked), tmp_path)
    for module, (extra, _) in uses.items():
        section = re.search(rf"_ test_{module} _+\n(.*?)\n_____|_ test_{module} _+\n(.*?)\n=====", output, re.DOTALL)
        assert section is not None, output
        assert f"pip install 'pytest-gpuperf[{extra}]'" in section[0], output


@pytest.mark.parametrize(("module", "url"), [("s3fs", "s3://bucket/x"), ("gcsfs", "gs://bucket/x")])
def test_a_store_in_a_bucket_says_it_before_a_test_runs(
    module: str, url: str, environment: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "test_suite.py").write_text("def test_measured(gpuperf):\n    gpuperf.sweep(int)\n")
    command = [sys.executable, "-m", "pytest", "--gpuperf", f"--gpuperf-store={url}", "-p", "no:benchmark"]
    done = subprocess.run(command, env=environment(module), cwd=tmp_path, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"pip install 'pytest-gpuperf[{OPTIONAL[module][0]}]'" in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
