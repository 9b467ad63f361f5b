"""All errors that pytest-gpuperf raises on purpose::

    GpuperfError
    ├── OptionError        an option, ini key, marker or argument is invalid
    ├── MissingExtra       an optional library is not installed; the message names the ``pip install`` line
    ├── TargetError        the target can't be described, started or used
    │   └── TargetDied     the started target has ended or does not answer; the message ends with an excerpt of its log
    ├── LoadError          the load could not be applied, or too many requests failed
    │   └── CallFailed     a measured call raised an exception, which is the ``__cause__``
    ├── DeviceError        the device under test can't be used as requested
    │   └── NvmlError      NVML returned an error; ``kind`` classifies it
    └── StoreError         a record can't be written or read
        └── UnreadableRecord   a stored file is damaged, altered, or written by a newer version
            └── FutureDate     a stored file is dated in the future

A message says what happened, where, and what to do. Errors of third-party libraries are
translated where the library is imported, with ``raise ... from``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_gpuperf.safe_text import safe


@dataclass(frozen=True)
class Argument:
    """An argument of a target that a message names: ``name=value``, or an option where a command made the target.

    Attributes:
        value: Value to write; None to name the argument alone.
    """

    name: str
    value: object = None

    def __str__(self) -> str:
        return f"{self.name}=" if self.value is None else f"{self.name}={self.value!r}"


class GpuperfError(Exception):
    """The base of all errors raised on purpose by this package.

    A message may contain answers of a server, names and URLs, so it is made safe to show.

    Args:
        parts: Parts of the message: text, and the arguments that it names.
    """

    def __init__(self, *parts: str | Argument) -> None:
        super().__init__(*(part if isinstance(part, Argument) else safe(part) for part in parts))

    def __str__(self) -> str:
        return self.spelled(str)

    def spelled(self, spelling: Callable[[Argument], str]) -> str:
        """Return the message with the arguments in another spelling."""
        return "".join(safe(spelling(part)) if isinstance(part, Argument) else str(part) for part in self.args)


class OptionError(GpuperfError):
    """An option, ini key, marker or argument is invalid."""


class MissingExtra(GpuperfError):
    """An optional library is not installed.

    Args:
        library: Module that could not be imported.
        extra: Extra of this package that installs it.
        purpose: What the library is needed for, completing "is needed to ...".
    """

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{library} is needed to {purpose}, but is not installed.\n"
            f"Install it with: pip install 'pytest-gpuperf[{extra}]'"
        )
        self.library = library
        self.extra = extra
        self._arguments = (library, extra, purpose)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str, str]]:
        # The error may be pickled across a process boundary.
        return type(self), self._arguments


class TargetError(GpuperfError):
    """The target can't be described, started or used."""


class TargetDied(TargetError):
    """The started target has ended or does not answer."""


class LoadError(GpuperfError):
    """The load could not be applied, or too many requests failed."""


class CallFailed(LoadError):
    """A measured call raised an exception, which is the ``__cause__``."""


class DeviceError(GpuperfError):
    """The device under test can't be used as requested."""


class NvmlError(DeviceError):
    """NVML returned an error.

    Args:
        kind: ``no_library`` (no driver library), ``absent`` (no driver loaded), ``driver`` (the driver was unloaded,
            replaced or is not initialised), ``lost`` (the GPU fell off the bus or needs a reset), ``no_permission``,
            ``not_supported``, ``not_found`` or ``other``.
        message: The failed call, and NVML's text.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[NvmlError], tuple[str, str]]:
        return type(self), (self.kind, str(self))


class StoreError(GpuperfError):
    """A record can't be written or read."""


class UnreadableRecord(StoreError):
    """A stored file is damaged, altered, or written by a newer version.

    Args:
        where: URL of the file.
        why: What is wrong with the file.
        remedy: What to do about it.
    """

    def __init__(self, where: str, why: str, remedy: str) -> None:
        super().__init__(f"{where}\n  {why}\n  {remedy}")
        self.where = where
        self.why = why
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[UnreadableRecord], tuple[str, ...]]:
        # Exceptions are pickled with their message, which is not the argument of this constructor.
        return type(self), (self.where, self.why, self.remedy)


class FutureDate(UnreadableRecord):
    """A stored file is dated in the future, so its place in the order of records is unknown.

    Args:
        where: URL of the file.
        date: Its date.
    """

    def __init__(self, where: str, date: str) -> None:
        super().__init__(
            where,
            f"is dated {date}, in the future: the clock of the machine that wrote it was ahead, or this machine's is "
            "behind",
            "Set the clock, and measure again, or accept the record here (gpuperf baseline accept), or delete it.",
        )
        self.date = date

    def __reduce__(self) -> tuple[type[FutureDate], tuple[str, ...]]:
        return type(self), (self.where, self.date)
