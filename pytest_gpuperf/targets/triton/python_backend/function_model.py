"""A user's function in Triton's Python backend. Copied into model repositories and run by Triton, never imported."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpuperf_requests import ArrayModel


class TritonPythonModel(ArrayModel):
    """Model that calls ``function(**inputs)``, which returns a dict of outputs, or the array of a single output."""

    def prepare(self, parameters: dict[str, str], gpu: int | None) -> None:
        # Without a locale, this Python takes paths for ASCII and writes other bytes as surrogates.
        path = Path(os.fsdecode(parameters["source"].encode()))
        sys.path.insert(0, str(path.parent))  # for modules beside the file
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._function = getattr(module, parameters["function"])

    def compute(self, feed: dict[str, Any], outputs: list[str]) -> Sequence[Any]:
        answer = self._function(**feed)
        if isinstance(answer, dict):
            return [answer[name] for name in outputs]
        if len(outputs) > 1:
            raise TypeError(f"it returned {type(answer).__name__}, not a dict of {', '.join(outputs)}")
        return [answer]
