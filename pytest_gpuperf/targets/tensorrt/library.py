"""The installed Python bindings of TensorRT. The only module that imports them."""

from __future__ import annotations

import functools
import importlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from pytest_gpuperf.errors import MissingExtra, OptionError, TargetError

TENSORRT, RTX = "tensorrt", "tensorrt-rtx"
#: Module of each library, in the order in which they are tried.
MODULES = {TENSORRT: "tensorrt", RTX: "tensorrt_rtx"}
_OLDEST = 10
#: First version that uses a model's types unchanged, and has no flags for precisions.
_TYPED = 11
_KEPT, _SHOWN = 400, 12
#: Longest message in characters; some contain the complete state of a compiler.
_WIDTH = 600


class TensorRTLog:
    """TensorRT's latest messages, the only place where its builder and runtime report reasons."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=_KEPT)

    def add(self, severity: str, message: str) -> None:
        self._lines.append((severity, message.strip()))

    def clear(self) -> None:
        self._lines.clear()

    def reason(self) -> str:
        """Return the distinct errors, else the warnings, indented; or a sentence if there are none."""
        for wanted in (("ERROR", "INTERNAL_ERROR"), ("WARNING",)):
            lines = list(dict.fromkeys(message for severity, message in tuple(self._lines) if severity in wanted))
            if lines:
                return "\n".join(f"  {_short(line)}" for line in lines[-_SHOWN:])
        return "  (TensorRT gave no reason)"


def _short(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]} ..."


@dataclass(frozen=True)
class Library:
    """An imported TensorRT.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        logger: ``ILogger`` that writes into ``log``.
    """

    trt: Any = field(repr=False)
    name: str
    version: str
    log: TensorRTLog = field(repr=False)
    logger: Any = field(repr=False)

    @property
    def rtx(self) -> bool:
        return self.name == RTX

    @property
    def always_typed(self) -> bool:
        """True if it uses a model's types unchanged, and has no flags for precisions."""
        return self.rtx or _major(self.version) >= _TYPED


def open_library(wanted: str | None, purpose: str) -> Library:
    """Import TensorRT.

    Args:
        wanted: ``tensorrt`` or ``tensorrt-rtx``; the first that is installed when None.
        purpose: What it is needed for, completing "is needed to ...".
    """
    if wanted is not None and wanted not in MODULES:
        raise OptionError(f"library={wanted!r}: the libraries are {' and '.join(MODULES)}.")
    for name in (wanted,) if wanted else MODULES:
        try:
            return _open(name)
        except ModuleNotFoundError as error:
            if error.name != MODULES[name]:
                raise TargetError(f"{name} is installed, but lacks {error.name}; install it again.") from error
        except (ImportError, OSError) as error:
            raise TargetError(
                f"{name} is installed, but can't be loaded: {error}\nCheck that its libraries are complete and that "
                "the loader finds them (LD_LIBRARY_PATH)."
            ) from error
    missing = wanted or TENSORRT
    raise MissingExtra(MODULES[missing], missing, purpose)


@functools.cache  # TensorRT uses its first logger for the lifetime of the process
def _open(name: str) -> Library:
    trt = importlib.import_module(MODULES[name])
    version = str(trt.__version__)
    if name == TENSORRT and _major(version) < _OLDEST:
        raise TargetError(f"TensorRT {version} is too old; install {_OLDEST}.0 or newer.")
    log = TensorRTLog()
    return Library(trt, name, version, log, _logger(trt, log))


def _major(version: str) -> int:
    return int(version.split(".", maxsplit=1)[0])


def _logger(trt: Any, log: TensorRTLog) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc] # its base is only known now
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            log.add(severity.name, msg)

    return Logger()
