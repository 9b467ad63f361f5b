"""The reports of ``gpuperf duet``: head's pytest writes them, and this module where there is no comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf.publish.formats import MARKDOWN, format_of, render, write
from pytest_gpuperf.publish.github import add_step_summary, on_github
from pytest_gpuperf.report.annotations import error_line
from pytest_gpuperf.store.provenance import utc_now


class DuetReports:
    """The files that ``--report`` names.

    Args:
        title: Names of both sides.
    """

    def __init__(self, paths: Sequence[str], title: str) -> None:
        self.title = title
        self._paths = [Path(path).absolute() for path in paths]
        self._before = [_version(path) for path in self._paths]

    @property
    def arguments(self) -> list[str]:
        """The arguments of head's pytest."""
        return [f"--gpuperf-report={path}" for path in self._paths]

    def write(self, *, error: str = "", notes: Sequence[str] = ()) -> None:
        """Write why nothing was compared, except into files that head's pytest has written.

        Args:
            error: What went wrong; empty if there is nothing to compare with.

        Raises:
            OptionError: A file can't be written.
        """
        for path, before in zip(self._paths, self._before, strict=True):
            if _version(path) == before:
                write(path, self._text(format_of(str(path)), error, notes))
        if on_github():
            if error:
                print(error_line("gpuperf duet: no comparison", error))
            if problem := add_step_summary(self._text(MARKDOWN, error, notes)):
                print(f"gpuperf duet: {problem}")

    def _text(self, name: str, error: str, notes: Sequence[str]) -> str:
        return render(name, [], title=self.title, generated_utc=utc_now(), notes=notes, error=error)


def _version(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns
