"""Parts of the comment on what is decided for the invocation, or not yet."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.model import ReportedTest
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.commands import accept
from pytest_gpuperf.report.common_mode import common_failure, common_note, common_of
from pytest_gpuperf.report.summary import WAITS, suspicion


def together(reported: Sequence[ReportedTest]) -> list[str]:
    """Return what all tests changed by together, as paragraphs."""
    modes = common_of(reported)
    texts = filter(None, (common_failure(modes), common_note(modes)))
    return [escape.text(f"{text[0].upper()}{text[1:]}") for text in texts]


def waiting(group: Sequence[ReportedTest]) -> list[str]:
    """Return a line for each suspect record, with the command that accepts it."""
    suspects = [test for test in group if test.record.gate == "suspect"]
    return [
        f"{escape.code(escape.shorten(test.record.test))}: {suspicion(test.comparison)}. {WAITS} with "
        f"{escape.code(accept(test))}"
        for test in suspects
    ]
