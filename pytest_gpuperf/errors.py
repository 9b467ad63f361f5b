"""Every error that a user of pytest-gpuperf can meet.

The tree::

    GpuperfError
    ├── OptionError        an option, ini key, marker or argument that can't be used as written
    ├── MissingExtra       an optional library is not installed; names the ``pip install`` line
    ├── TargetError        the thing under test can't be described, started or asked
    │   └── TargetDied     it was running and is gone; carries the end of its log
    ├── LoadError          the load could not be applied, or too many requests failed
    ├── DeviceError        the GPU can't be used as asked
    │   └── NvmlError      NVML answered with an error; ``kind`` says which
    └── StoreError         a record can't be written or read
        └── UnreadableRecord   one stored file is damaged, tampered with or too new

A message says what happened, where, and what to do. Errors of third-party libraries are
translated where the library is imported, with ``raise ... from``.
"""

from __future__ import annotations


class GpuperfError(Exception):
    """The base of all errors raised on purpose by this package."""


class OptionError(GpuperfError):
    """An option, ini key, marker or argument can't be used as written."""


class MissingExtra(GpuperfError):
    """An optional library is not installed.

    Args:
        library: the module that could not be imported.
        extra: the extra of this package that brings it.
        purpose: what it was needed for, as the end of "is needed to ...".
    """

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{library} is needed to {purpose}, and is not installed.\n"
            f"Install it with: pip install 'pytest-gpuperf[{extra}]'"
        )
        self.library = library
        self.extra = extra
        self._arguments = (library, extra, purpose)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str, str]]:
        # It may cross a process boundary.
        return type(self), self._arguments


class TargetError(GpuperfError):
    """The thing under test can't be described, started or asked."""


class TargetDied(TargetError):
    """The thing under test was running and is gone."""


class LoadError(GpuperfError):
    """The load could not be applied, or too many requests failed."""


class DeviceError(GpuperfError):
    """The device under test can't be used as asked."""


class NvmlError(DeviceError):
    """NVML answered with an error.

    Args:
        kind: ``absent`` (no driver library, or no driver behind it), ``driver`` (it was unloaded, replaced or is not
            initialised), ``lost`` (the GPU fell off the bus or has to be reset), ``no_permission``, ``not_supported``,
            ``not_found`` or ``other``.
        message: what was asked, and NVML's words.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[NvmlError], tuple[str, str]]:
        return type(self), (self.kind, str(self))


class StoreError(GpuperfError):
    """A record can't be written or read."""


class UnreadableRecord(StoreError):
    """One stored file is damaged, tampered with, or written by a newer version.

    Args:
        where: the file's URL.
        why: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, where: str, why: str, remedy: str) -> None:
        super().__init__(f"{where}\n  {why}\n  {remedy}")
        self.where = where
        self.why = why
        self.remedy = remedy
