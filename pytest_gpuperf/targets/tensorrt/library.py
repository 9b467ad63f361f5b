"""The Python bindings of TensorRT, whichever are installed. The only module that imports them."""

from __future__ import annotations

import functools
import importlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from pytest_gpuperf.errors import MissingExtra, OptionError, TargetError

TENSORRT, RTX = "tensorrt", "tensorrt-rtx"
#: Names that people use, and the modules behind them, in the order in which they are tried.
MODULES = {TENSORRT: "tensorrt", RTX: "tensorrt_rtx"}
_OLDEST = 10
#: From here on TensorRT takes a model's types as they are, and has no flags for precisions.
_TYPED = 11
_KEPT, _SHOWN = 400, 12
#: Characters of a message: some carry the whole state of a compiler.
_WIDTH = 600


class TensorRTLog:
    """What TensorRT said lately; its builder and its runtime give reasons nowhere else."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=_KEPT)

    def add(self, severity: str, message: str) -> None:
        self._lines.append((severity, message.strip()))

    def clear(self) -> None:
        self._lines.clear()

    def reason(self) -> str:
        """The errors, else the warnings, each once and indented; a sentence where it said nothing."""
        for wanted in (("ERROR", "INTERNAL_ERROR"), ("WARNING",)):
            found = list(dict.fromkeys(message for severity, message in tuple(self._lines) if severity in wanted))
            if found:
                return "\n".join(f"  {_short(line)}" for line in found[-_SHOWN:])
        return "  (TensorRT gave no reason)"


def _short(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]} ..."


@dataclass(frozen=True)
class Library:
    """An imported TensorRT.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        logger: the ``ILogger`` that writes into ``log``.
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
        """It takes the model's types as they are, and has no flags for precisions."""
        return self.rtx or _major(self.version) >= _TYPED


def open_library(wanted: str | None, purpose: str) -> Library:
    """TensorRT.

    Args:
        wanted: ``tensorrt`` or ``tensorrt-rtx``; the first of them that is installed when None.
        purpose: as the end of "is needed to ...".

    Raises:
        MissingExtra: it isn't installed.
        OptionError: there is no such library.
        TargetError: it is installed and can't be used.
    """
    if wanted is not None and wanted not in MODULES:
        raise OptionError(f"library={wanted!r}: the libraries are {' and '.join(MODULES)}.")
    for name in (wanted,) if wanted else MODULES:
        try:
            return _open(name)
        except ModuleNotFoundError as error:
            if error.name != MODULES[name]:
                raise TargetError(f"{name} is installed but lacks {error.name}; install it again.") from error
        except (ImportError, OSError) as error:
            raise TargetError(
                f"{name} is installed but can't be loaded: {error}\nAre its libraries complete, and where the loader "
                "finds them (LD_LIBRARY_PATH)?"
            ) from error
    missing = wanted or TENSORRT
    raise MissingExtra(MODULES[missing], missing, purpose)


@functools.cache  # TensorRT keeps the first logger that it is given, for everything in the process
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
