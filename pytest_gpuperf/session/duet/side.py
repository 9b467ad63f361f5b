"""One side of ``gpuperf duet``: a pytest process that takes every step only when the command says so.

``measure.channel`` describes the messages; ``cli.duet.conductor`` is their other end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NoReturn

import pytest

from pytest_gpuperf import __version__
from pytest_gpuperf.device import LockId
from pytest_gpuperf.measure import MeasurePlan, duet_plan
from pytest_gpuperf.measure.channel import HEAD, PROTOCOL, VARIABLE, Channel, Hangup, Message, Welcome
from pytest_gpuperf.measure.measuring_loop import Measurement
from pytest_gpuperf.measure.turns import BlockDecision, MeasureStep, Phase, Turn
from pytest_gpuperf.model import LoadPoint, Record, Run
from pytest_gpuperf.model.codec import from_builtins, to_builtins
from pytest_gpuperf.session.duet.looks import DuetLooks
from pytest_gpuperf.session.failure_reason import reason_of
from pytest_gpuperf.session.ids.test_id import IdScheme
from pytest_gpuperf.session.marker import uses_gpuperf
from pytest_gpuperf.session.sweeps import Sweep


@dataclass(frozen=True)
class SideResult:
    """The other side's result of a test.

    Attributes:
        record: Record of its measurement; None without a record to compare with.
        reason: Reason why ``record`` is None.
    """

    record: Record | None
    reason: str = ""


class DuetSide:
    """The connection of this process to the command.

    Attributes:
        side: ``head``, which is gated, or ``base``.
        notes: What was not compared, for the reports.
    """

    def __init__(self, side: str, channel: Channel, lock_id: LockId) -> None:
        self.side, self._channel = side, channel
        self._tests: dict[str, str] = {}
        self.notes: list[str] = []
        answer = self._ask(
            {"kind": "hello", "protocol": PROTOCOL, "side": side, "gpuperf": __version__, "lock": asdict(lock_id)}
        )
        self._welcome = Welcome(**{field.name: answer[field.name] for field in fields(Welcome)})

    @classmethod
    def join(cls, lock_id: Callable[[], LockId]) -> DuetSide | None:
        """Connect to the command that started this process; return None if no command did.

        Args:
            lock_id: Returns what locks the device under test.
        """
        # Removed, so that a pytest started by a test does not connect as well.
        given = os.environ.pop(VARIABLE, "")
        if not given:
            return None
        side, _, path = given.partition(":")
        try:
            return cls(side, Channel.connect(path), lock_id())
        except Hangup as error:
            raise pytest.UsageError(f"gpuperf duet can't be reached: {error}") from error

    @property
    def is_head(self) -> bool:
        return self.side == HEAD

    @property
    def title(self) -> str:
        """The names of both sides."""
        return self._welcome.title

    @property
    def alternations(self) -> int | None:
        """Pairs of windows in each block that the user asks for; None for what the spreads suggest."""
        return self._welcome.alternations

    def plan(self, window_s: float) -> MeasurePlan:
        """Return the plan of a sweep, whose windows are no longer than the test asks for."""
        return duet_plan(self._welcome.blocks, self.alternations, min(window_s, self._welcome.window_s))

    def home_store(self, url: str) -> str:
        """Return a store's place in the user's checkout: this side's worktree is deleted at the end."""
        tree, home = self._welcome.tree, self._welcome.home
        inside = "://" not in url and Path(url).resolve().is_relative_to(Path(tree).resolve())
        return str(Path(home, Path(url).resolve().relative_to(Path(tree).resolve()))) if inside else url

    def keep_common_tests(self, config: pytest.Config, items: list[pytest.Item], ids: IdScheme) -> None:
        """Deselect the tests that only one side runs, and put the others into the order of both.

        Args:
            ids: Names the tests. A test that was moved between the commits is common if its marker states its name.
        """
        gated = {ids.test_id(item): item for item in items if uses_gpuperf(item)}
        self._tests = {item.nodeid: test for test, item in gated.items()}
        answer = self._ask({"kind": "collected", "tests": list(gated)})
        self.notes += map(str, answer["notes"])
        chosen = [gated[test] for test in map(str, answer["tests"]) if test in gated]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen

    def wait_for_turn(self, item: pytest.Item) -> None:
        """Wait until a test may begin, or stop pytest if the command says so."""
        if reason := str(
            self._ask({"kind": "begin_test", "test": self._test_id(item.nodeid)}).get("stop_reason") or ""
        ):
            item.session.shouldstop = reason

    def points(self, test: str, name: str, points: Sequence[LoadPoint]) -> list[LoadPoint] | None:
        """Return the points of both sides, in one order; None if the other side does not measure this sweep."""
        answer = self._ask(
            {
                "kind": "begin_sweep",
                "test": test,
                "name": name,
                "points": [to_builtins(point) for point in points],
                "checkout_modules": self._checkout_modules(),
            }
        )
        points_data = answer.get("points")
        return None if points_data is None else [from_builtins(LoadPoint, data, "point") for data in points_data]

    def drive(self, steps: Measurement[object], sweep: Sweep, looks: DuetLooks) -> bool:
        """Take the steps of one side, each in its turn; False when the other side gave up.

        Args:
            sweep: Gets the runs, and the number of blocks after which the duet ended.
            looks: Decides about the blocks, if this side is asked to.
        """
        complete = abandoned = False
        try:
            step = next(steps)
            while True:
                answer = self._next_turn(step, sweep, looks)
                if answer.get("abandon_reason"):
                    abandoned = True
                    break
                decision = from_builtins(BlockDecision, answer["decision"]) if answer.get("decision") else None
                if decision is not None and decision.ended:
                    sweep.planned = step.run
                step = steps.send(
                    Turn(bool(answer.get("sequential")), bool(answer.get("both_started")), False, decision)
                )
        except StopIteration:
            complete = True
        finally:
            steps.close()
            self._send({"kind": "sweep_ended", "complete": complete})
        return not abandoned

    def _next_turn(self, step: MeasureStep, sweep: Sweep, looks: DuetLooks) -> Message:
        """Ask for the next turn, and decide about the block that begins if the command wants to know."""
        request = {"kind": "next_step", **asdict(step)}
        if step.phase is Phase.START and not self.is_head:
            request["runs"] = [to_builtins(run) for run in sweep.runs]
        answer = self._ask(request)
        if "runs_of_base" in answer:
            decision = looks.decide(step.run, [from_builtins(Run, data) for data in answer["runs_of_base"]])
            self._ask({"kind": "block_decision", "block": step.run, "decision": to_builtins(decision)})
            answer = self._ask(request)
        return answer

    def exchange_records(self, test: str, record: Record | None, error: str) -> SideResult:
        """Send this side's record of a test, and return the other side's."""
        answer = self._ask(
            {
                "kind": "end_test",
                "test": test,
                "error": error,
                "record": to_builtins(record) if record is not None else None,
            }
        )
        data = answer.get("record")
        return SideResult(from_builtins(Record, data) if data is not None else None, str(answer.get("reason") or ""))

    def send_result(self, report: pytest.TestReport) -> None:
        """Tell the command about a test that failed or was skipped."""
        if report.failed or report.skipped:
            reason = reason_of(report)
            test = self._test_id(report.nodeid)
            self._send({"kind": "not_passed", "test": test, "outcome": report.outcome, "reason": reason})

    def leave(self) -> None:
        """Tell the command that all tests are over. May be called twice."""
        with contextlib.suppress(Hangup):
            self._channel.send({"kind": "bye"})
        self._channel.close()

    def _test_id(self, node_id: str) -> str:
        return self._tests.get(node_id, node_id)

    def _checkout_modules(self) -> list[str]:
        """Return the modules that this side, in a worktree, has imported from the user's checkout."""
        home, tree = Path(self._welcome.home).resolve(), Path(self._welcome.tree).resolve()
        if home == tree:
            return []
        installed = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)]

        def is_of_checkout(path: Path) -> bool:
            if not path.is_relative_to(home) or path.is_relative_to(tree):
                return False
            # An environment may well lie in the checkout.
            if {"site-packages", "dist-packages"} & set(path.parts):
                return False
            return not any(path.is_relative_to(prefix) and prefix != home for prefix in installed)

        files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
        paths = {name: Path(file).resolve() for name, file in files.items() if isinstance(file, str)}
        return sorted(f"{name} ({path})" for name, path in paths.items() if is_of_checkout(path))

    def _ask(self, message: Message) -> Message:
        try:
            self._channel.send(message)
            return self._channel.receive()
        except Hangup:
            self._exit()

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except Hangup:
            self._exit()

    @staticmethod
    def _exit() -> NoReturn:
        pytest.exit("gpuperf duet has ended, so this pytest ends as well", returncode=pytest.ExitCode.INTERRUPTED)
