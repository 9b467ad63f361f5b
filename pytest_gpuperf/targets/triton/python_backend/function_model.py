"""A user's function in Triton's Python backend: copied into model repositories, run by Triton, never imported here."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpuperf_requests import ArrayModel


class TritonPythonModel(ArrayModel):
    """Calls ``function(**inputs)``; it returns a mapping of outputs, or the array where there is only one."""

    def prepare(self, parameters: dict[str, str], gpu: int | None) -> None:
        path = Path(parameters["source"])
        sys.path.insert(0, str(path.parent))  # for what lies beside it
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._function = getattr(module, parameters["function"])

    def compute(self, feed: dict[str, Any], outputs: list[str]) -> Sequence[Any]:
        answer = self._function(**feed)
        if isinstance(answer, dict):
            return [answer[name] for name in outputs]
        if len(outputs) > 1:
            raise TypeError(f"it returned one {type(answer).__name__}, not a dict of {', '.join(outputs)}")
        return [answer]
