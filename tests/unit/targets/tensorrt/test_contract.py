"""Every use of TensorRT in the package against the real bindings of several versions; ``contract`` says how."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.targets.tensorrt.contract import PACKAGE, Checker
from tests.unit.targets.tensorrt.packages import unpacked

#: The first and the last of each line that there are wheels of.
VERSIONS = ("10.0.1" if sys.version_info < (3, 13) else "10.9.0.34", "10.16.1.11", "11.0.0.114", "11.4.0.106")
_STUBS = {"INFER": "nvinfer", "PARSER": "nvonnxparser", "PLUGIN": "nvinfer_plugin"}
#: The calls that no engine can do without: the check has to have met them.
_MET = {
    "Builder.build_serialized_network",
    "IBuilderConfig.add_optimization_profile",
    "IBuilderConfig.set_timing_cache",
    "ICudaEngine.create_execution_context",
    "IExecutionContext.execute_async_v3",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.set_tensor_address",
    "INetworkDefinition.get_input",
    "IOptimizationProfile.set_shape",
    "ITensor.shape",
    "ITimingCache.serialize",
    "OnnxParser.parse",
    "ParserError.desc",
    "Runtime.deserialize_cuda_engine",
}


def checked(module: str, env: dict[str, str]) -> dict[str, Any]:
    script = Path(__file__).with_name("contract.py")
    root = str(PACKAGE.parents[2])
    env = env | {"PYTHONPATH": os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, str(script), module], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_tensorrt(version: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the libraries that the bindings are loaded with")
    bindings = unpacked(f"tensorrt-cu12-bindings=={version}")
    source = Path(__file__).with_name("trt_stub.c")
    for part, name in _STUBS.items():
        soname = f"lib{name}.so.{version.split('.', maxsplit=1)[0]}"
        flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-D{part}", f"-Wl,-soname,{soname}"]
        subprocess.run([compiler, *flags, "-o", tmp_path / soname, source], check=True)
    paths = {"LD_LIBRARY_PATH": tmp_path, "PYTHONPATH": bindings}
    env = {name: os.pathsep.join(filter(None, [str(path), os.environ.get(name)])) for name, path in paths.items()}
    found = checked("tensorrt_bindings", dict(os.environ) | env)
    assert found["errors"] == []
    assert found["version"].split(".post")[0] == version
    assert set(found["checked"]) >= _MET


def test_tensorrt_for_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX has no wheel for this machine")
    found = checked("tensorrt_rtx", dict(os.environ))
    assert found["errors"] == []
    assert set(found["checked"]) >= _MET | {"IBuilderConfig.set_compute_capability"}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("builder.build_engine(network, config)", "there is no Builder.build_engine"),
        ("context.execute_async_v2(bindings=[])", "there is no IExecutionContext.execute_async_v2"),
        ("trt.BuilderFlag.FP16", "there is no BuilderFlag.FP16"),
        ("config.set_timing_cache(cache)", r"set_timing_cache is called with 1 and \[\]"),
        ("config.set_timing_cache(cache, ignore=False)", r"called with 1 and \['ignore'\]"),
        ("context.execute_async_v3(1, 2)", "called with 2"),
        ("parser.get_error(0).text()", "there is no ParserError.text"),
        ("self._context.set_binding_shape(0, (1,))", "there is no IExecutionContext.set_binding_shape"),
        ("mystery.execute()", "what is mystery"),
        ("self._mystery.execute()", "what is ._mystery"),
        ("trt.Builder()", r"Builder is called with 0 and \[\]"),
    ],
)
def test_the_check_can_fail(code: str, error: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    checker = Checker(trt, Path("builder.py"), rtx=True)
    checker.visit(ast.parse(code))
    with pytest.raises(AssertionError, match=error):
        assert not checker.errors


def test_every_library_is_imported_in_one_module() -> None:
    places: dict[str, set[str]] = {}
    for source in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "import_extra":
                names.append(ast.literal_eval(node.args[0]))
            for name in names:
                places.setdefault(name.split(".")[0], set()).add(source.name)
    assert places["cuda"] == {"cuda_device.py"}
    assert places["onnx"] == places["onnxconverter_common"] == {"onnx_file.py"}
    assert not {"tensorrt", "tensorrt_rtx"} & set(places)
    assert [source.name for source in PACKAGE.glob("*.py") if "import_module" in source.read_text()] == ["library.py"]
