"""What a test hands to the reports at the end, in a form that pytest-xdist carries from its workers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from pytest_gpuperf.model import Comparison, Record
from pytest_gpuperf.model.codec import from_builtins, to_builtins


@dataclass(frozen=True)
class TestOutcome:
    """One test: what it measured, and what was decided about that. ``ReportedTest`` explains the other fields."""

    #: No test class, whatever its name.
    __test__: ClassVar[bool] = False

    record: Record
    comparison: Comparison
    path: str = ""
    store_option: str = ""
    error: str = ""
    file: str = ""
    line: int = 0

    def as_text(self) -> str:
        """As JSON, which ``of_text`` reads."""
        return json.dumps(to_builtins(self))

    @classmethod
    def of_text(cls, text: str) -> TestOutcome:
        """The record that ``as_text`` was called on."""
        return from_builtins(cls, json.loads(text), "carried")
