"""Holds every use of TensorRT in the package to real bindings: a script, since a process can load one version only.

    python contract.py tensorrt_bindings|tensorrt_rtx

It reads the sources, works out the type of everything that an attribute is asked of, and checks that the bindings'
class has it, and that it can be called as it is called; the signatures are those of pybind11's docstrings. What it
can't work out, and isn't listed as our own, is an error: nothing passes unseen. Prints a JSON object.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[4] / "pytest_gpuperf" / "targets" / "tensorrt"
SOURCES = ("library.py", "builder.py", "execution.py", "engine.py")

#: What variables and attributes of these names hold: a class of the bindings.
TYPES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "problem": "ParserError",
    "tensor": "ITensor",
    "dtype": "DataType",
    "severity": "ILogger.Severity",
    "runtime": "Runtime",
    "_runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
}
#: Names that hold nothing of TensorRT's: our own, Python's and CUDA's.
_NAMES = """
arrays buffer built cleaning compute_capability contextlib data deque device dict error facts field file found
functools gpu hashlib host importlib item itertools key library lines log math message mine name number one os path
payload payloads plan pool problem profile profiles queue ranges reason recipe request request_times requests resource
self shapes size_range sizes slot slots spec specs steps store stream super target threading time timing version what
"""
_ATTRIBUTES = """
_begin _closing _computed _digest _end _free _gpu _graph _input_specs _inputs _library _lines _loaded _lock
_output_specs _outputs _pools _profiles _request_times _requests _slots _stream _target _waiting always_typed
batch_sizes buffers cleared convert data digest flags inputs label library log name onnx path plan prebuilt problem
root rtx shape shapes stem streams suffix timing_cache version workspace_bytes
"""
OURS, OUR_ATTRIBUTES = frozenset(_NAMES.split()), frozenset(_ATTRIBUTES.split())
#: Only TensorRT for RTX runs these.
RTX_ONLY = frozenset({"_set_compute_capability"})


def holder(trt: Any, name: str) -> Any:
    """A class by its name, as ``ILogger.Severity``."""
    found = trt
    for part in name.split("."):
        found = getattr(found, part)
    return found


def signatures(thing: Any) -> list[tuple[list[str], int, str]]:
    """Names of the parameters without ``self``, how many must be given, and what comes back, for every overload."""
    found = []
    for line in (thing.__doc__ or "").splitlines():
        match = re.match(r"(?:\d+\. )?(\w+)\((.*)\) -> (.+?)\s*$", line)
        if match is None:
            continue
        names, needed = [], 0
        for part in _split(match[2]):
            name = part.split(":")[0].split("=")[0].strip()
            if name in ("self", "arg0") or name.startswith("*"):
                continue
            names.append(name)
            needed += "=" not in part
        found.append((names, needed, re.split(r"[.:]+", match[3])[-1]))
    return found


def _split(arguments: str) -> list[str]:
    parts, depth, last = [], 0, 0
    for place, letter in enumerate(arguments):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and not depth:
            parts.append(arguments[last:place])
            last = place + 1
    return [part for part in [*parts, arguments[last:]] if part.strip()]


class Checker(ast.NodeVisitor):
    """One source file against one version of the bindings."""

    def __init__(self, trt: Any, source: Path, rtx: bool) -> None:
        self._trt, self._source, self._rtx = trt, source, rtx
        self.errors: list[str] = []
        self.checked: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if self._rtx or node.name not in RTX_ONLY:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._attribute(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and (owner := self._type(node.func.value)) is not None:
            self._call(node, owner, node.func.attr)
        self.generic_visit(node)

    def _attribute(self, node: ast.Attribute) -> None:
        owner = self._type(node.value)
        if owner is None:
            return
        what = f"{getattr(owner, '__name__', owner)}.{node.attr}"
        if hasattr(owner, node.attr):
            self.checked.add(what)
        else:
            self._error(node, f"there is no {what}")

    def _call(self, node: ast.Call, owner: Any, attribute: str) -> None:
        thing = getattr(owner, attribute, None)
        if thing is None or isinstance(thing, property):
            return
        if isinstance(thing, type):
            thing = vars(thing)["__init__"]
        given, named = len(node.args), [one.arg for one in node.keywords]
        if attribute == "__init__":
            given -= 1  # its self
        known = signatures(thing)
        fitting = [
            names
            for names, needed, _ in known
            if given + len(named) >= needed and given <= len(names) and all(name in names[given:] for name in named)
        ]
        if known and not fitting:
            self._error(node, f"{attribute} is called with {given} and {named}; it takes {[one[0] for one in known]}")
        elif not known and attribute != "__init__":
            self._error(node, f"{attribute} has no signature")

    def _type(self, node: ast.expr) -> Any:
        """The class (or the module, or the enumeration) of an expression; None where it is nothing of TensorRT's."""
        if isinstance(node, ast.Name):
            return self._of_name(node)
        if isinstance(node, ast.Attribute):
            return self._of_attribute(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            return self._of_call(node, node.func)
        return None

    def _of_name(self, node: ast.Name) -> Any:
        if node.id == "trt":
            return self._trt
        if node.id in TYPES and not self._shadowed(node):
            return holder(self._trt, TYPES[node.id])
        if node.id not in OURS and not node.id[0].isupper():
            self._error(node, f"what is {node.id}? Say so in contract.py")
        return None

    def _of_attribute(self, node: ast.Attribute) -> Any:
        if node.attr == "trt":
            return self._trt
        owner = self._type(node.value)
        if owner is not None:
            found = getattr(owner, node.attr, None)
            # What a property holds, its documentation doesn't say; such things have names that TYPES knows.
            return found if isinstance(found, type) else None
        of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
        if of_self and node.attr in TYPES and node.attr not in OUR_ATTRIBUTES:
            return holder(self._trt, TYPES[node.attr])
        if node.attr not in OUR_ATTRIBUTES:
            self._error(node, f"what is .{node.attr}? Say so in contract.py")
        return None

    def _of_call(self, node: ast.Call, method: ast.Attribute) -> Any:
        owner = self._type(method.value)
        called = getattr(owner, method.attr, None) if owner is not None else None
        if called is None or isinstance(called, type):
            return called
        for _, _, result in signatures(called):
            # The parser's bindings name some of their C++ types.
            for name in (result, result.removeprefix("I")):
                if hasattr(self._trt, name):
                    return getattr(self._trt, name)
        self._error(node, f"what does {method.attr} return?")
        return None

    def _shadowed(self, node: ast.Name) -> bool:
        """``problem`` is a parser's error in the builder only, ``profile`` a number while an engine runs."""
        return node.id in ("problem", "profile") and self._source.name != "builder.py"

    def _error(self, node: ast.expr, text: str) -> None:
        self.errors.append(f"{self._source.name}:{node.lineno}: {text}")


def flags(trt: Any, always_typed: bool) -> list[str]:
    """Builder flags that are looked up by name, of every precision."""
    sys.path.insert(0, str(PACKAGE.parents[2]))
    from pytest_gpuperf.targets.tensorrt.builder import DATATYPES
    from pytest_gpuperf.targets.tensorrt.precision import PRECISIONS, recipe_for

    steps = [recipe_for(precision, always_typed=always_typed) for precision in PRECISIONS]
    missing = [
        f"BuilderFlag.{name}"
        for one in steps
        for name in (*one.flags, *one.cleared)
        if not hasattr(trt.BuilderFlag, name)
    ]
    return missing + [f"DataType.{name}" for name in DATATYPES if not hasattr(trt.DataType, name)]


def fakes(trt: Any) -> list[str]:
    """Where the fake runtime of the tests has what the real one hasn't."""
    from tests.unit.targets.tensorrt import fake_trt

    errors = []
    for fake in (fake_trt.Runtime, fake_trt.ICudaEngine, fake_trt.IExecutionContext):
        real = getattr(trt, fake.__name__)
        for name, thing in vars(fake).items():
            if name.startswith("_"):
                continue
            if not hasattr(real, name):
                errors.append(f"there is no {fake.__name__}.{name}")
            elif callable(thing):
                ours = list(thing.__code__.co_varnames[1 : thing.__code__.co_argcount])
                known = [names[: len(ours)] for names, _, _ in signatures(getattr(real, name))]
                if ours not in known:
                    errors.append(f"{fake.__name__}.{name} takes {ours}; the real one {known}")
    for fake_enum in (fake_trt.DataType, fake_trt.TensorIOMode, fake_trt.TensorLocation):
        real = getattr(trt, fake_enum.__name__)
        errors += [f"there is no {fake_enum.__name__}.{one.name}" for one in fake_enum if not hasattr(real, one.name)]
    return errors


def main(module: str) -> None:
    trt = importlib.import_module(module)
    rtx = module == "tensorrt_rtx"
    errors: list[str] = []
    checked: set[str] = set()
    for name in SOURCES:
        source = PACKAGE / name
        checker = Checker(trt, source, rtx)
        checker.visit(ast.parse(source.read_text()))
        errors += checker.errors
        checked |= checker.checked
    errors += flags(trt, rtx or int(trt.__version__.split(".")[0]) >= 11)
    errors += fakes(trt)
    sys.stdout.write(json.dumps({"version": trt.__version__, "errors": errors, "checked": sorted(checked)}))


if __name__ == "__main__":
    main(sys.argv[1])
