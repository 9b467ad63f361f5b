"""A test as it was judged at its end, kept until all tests of the invocation are known."""

from __future__ import annotations

import base64
import pickle
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pytest_gpuperf.model import Record
from pytest_gpuperf.publish.comparison import RecordToJudge


@dataclass(frozen=True)
class JudgedTest:
    """What judges a test again without reading the store.

    Attributes:
        baseline: Records that it was compared with, without their runs.
        notes: Lines that the terminal shows whatever the verdict is.
    """

    to_judge: RecordToJudge
    baseline: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()

    def encoded(self) -> str:
        """Return the test as text, which only another process of this invocation reads."""
        # A copy lacks what was computed from the values: arrays, which the other process makes again.
        copied = replace(self, to_judge=replace(self.to_judge))
        return base64.b64encode(zlib.compress(pickle.dumps(copied), 1)).decode()

    @staticmethod
    def decoded(text: str) -> JudgedTest:
        """Return what a process of this invocation has encoded."""
        judged = pickle.loads(zlib.decompress(base64.b64decode(text)))
        assert isinstance(judged, JudgedTest)
        return judged


def without_runs(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return records that still say where they come from, and take little memory."""
    return tuple(replace(record, runs=(), reference=()) for record in records)
