"""Gives two pytest processes their turns, so that exactly one of them does anything at any time.

Both run the same tests in the same order. Each says what it would do next (``measure.channel``) and waits; the one that
is behind goes. Inside a sweep that both measure, ``measure.turns`` decides.
"""

from __future__ import annotations

import math
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_gpuperf.device import DeviceLock
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.measure.channel import BASE, HEAD, PROTOCOL, Channel, Hangup, Message, Welcome
from pytest_gpuperf.measure.turns import MeasureStep, Phase, Turns
from pytest_gpuperf.targets.process import SupervisedProcess

_POLL_S = 0.1
_SHOWN_LINES = 25


class SideEnded(GpuperfError):
    """A side died, hangs, or can't be measured; the other one is ended with it."""


@dataclass
class DuetSide:
    """One pytest process.

    Attributes:
        asked: what it waits for leave to do; None while it has leave.
        since: when it got that.
        tests: those that measure, in its order; None until it has said so.
        index: of the test that it is at, among those that both run.
        sweeps: how many sweeps of that test it has come to.
        swept: sweeps that it is through with, by test and number: whether to their end.
        results: failed and skipped tests, with the outcome and the reason.
        ended: it has run its tests.
    """

    name: str
    process: SupervisedProcess
    tree: Path
    home: Path
    channel: Channel | None = None
    asked: Message | None = None
    since: float = field(default_factory=time.monotonic)
    tests: list[str] | None = None
    index: int = -1
    sweeps: int = 0
    swept: dict[tuple[int, int], bool] = field(default_factory=dict)
    results: dict[str, tuple[str, str]] = field(default_factory=dict)
    ended: bool = False

    @property
    def running(self) -> bool:
        return self.asked is None and not self.ended

    @property
    def what(self) -> str:
        return str(self.asked["what"]) if self.asked is not None else ""

    @property
    def place(self) -> tuple[float, ...]:
        """How far the side is."""
        if self.ended:
            return (math.inf,)
        stage = {"collected": (-1, 0), "test": (0, 0), "sweep": (1, 0), "step": (1, 1), "over": (2, 0)}[self.what]
        if self.what == "collected":
            return (-1,)
        sweep = self.sweeps if self.what in ("sweep", "step") else 0
        return (self.index, stage[0], sweep, stage[1])

    @property
    def step(self) -> MeasureStep:
        assert self.asked is not None
        values = {name: int(self.asked[name]) for name in ("run", "phase", "number", "parity")}
        return MeasureStep(**{**values, "phase": Phase(values["phase"])})  # type: ignore[arg-type]


@dataclass(frozen=True)
class DuetPlan:
    """How the sides measure, and how long either may be silent."""

    blocks: int
    alternations: int
    window_s: float
    deadline_s: float


class DuetConductor:
    """The command's end of both sockets.

    Attributes:
        common: the tests that both run.
        compared: those that head compared with base.
        notes: what people should know in the end.
    """

    def __init__(
        self, head: DuetSide, base: DuetSide, listener: socket.socket, plan: DuetPlan, say: Callable[[str], None]
    ) -> None:
        self._sides = {HEAD: head, BASE: base}
        self._listener, self._plan, self._say = listener, plan, say
        self._unknown: list[Channel] = []
        self._locks = ExitStack()
        self._device = ""
        self._turns: dict[tuple[int, int], Turns] = {}
        self._pairs: dict[tuple[int, int], Message] = {}
        self._measured: dict[str, Message] = {}
        self.common: list[str] = []
        self.compared: list[str] = []
        self.notes: list[str] = []

    def run(self, tick: Callable[[], None]) -> None:
        """Until both sides have run their tests.

        Args:
            tick: called several times a second.

        Raises:
            SideEnded: a side died, hangs, or measures something else than it should.
        """
        head, base = self._sides[HEAD], self._sides[BASE]
        with self._locks:
            self._locks.callback(self._close)
            while not (head.ended and base.ended):
                while head.running or base.running:
                    self._listen()
                    tick()
                if not (head.ended and base.ended):
                    self._answer(*self._next())

    def _close(self) -> None:
        for channel in (*self._unknown, *(side.channel for side in self._sides.values())):
            if channel is not None:
                channel.close()

    # Listening

    def _listen(self) -> None:
        """Take one message, if one comes soon."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            for channel in (*self._unknown, *(s.channel for s in self._sides.values() if s.channel and not s.ended)):
                selector.register(channel, selectors.EVENT_READ, channel)
            ready = selector.select(_POLL_S)
        for key, _ in ready:
            if key.data is None:
                self._unknown.append(Channel(self._listener.accept()[0]))
            elif key.data in self._unknown:
                self._greet(key.data)
            else:
                self._take(next(side for side in self._sides.values() if side.channel is key.data))
        for side in self._sides.values():
            self._check(side)

    def _greet(self, channel: Channel) -> None:
        self._unknown.remove(channel)
        try:
            hello = channel.receive()
            side = self._sides[str(hello["side"])]
        except (Hangup, KeyError):
            channel.close()  # none of ours
            return
        if hello.get("protocol") != PROTOCOL:
            raise SideEnded(
                f"{side.name} has pytest-gpuperf {hello.get('gpuperf')}, which another version of gpuperf duet "
                "belongs to.\nInstall the same version on both sides."
            )
        device = str(hello["device"])
        if not self._device:
            self._device = device
            self._locks.enter_context(
                DeviceLock(device, lambda holder: self._say(f"waiting for the device, which {holder} is measuring on"))
            )
        elif device != self._device:
            raise SideEnded(
                f"The sides are on different devices: {device} ({side.name}) and {self._device}.\n"
                "Name one for both: -- --gpuperf-device DEVICE"
            )
        plan = self._plan
        side.channel = channel
        side.since = time.monotonic()
        channel.send(asdict(Welcome(plan.blocks, plan.alternations, plan.window_s, str(side.home), str(side.tree))))

    def _take(self, side: DuetSide) -> None:
        assert side.channel is not None
        try:
            message = side.channel.receive()
        except Hangup:
            # It may just have ended: then its exit status says more.
            side.channel.close()
            side.channel = None
            return
        side.since = time.monotonic()
        match message["what"]:
            case "swept":
                side.swept[side.index, side.sweeps] = bool(message["complete"])
            case "result":
                side.results[str(message["test"])] = (str(message["outcome"]), str(message["text"]))
            case "bye":
                side.ended = True
            case "collected":
                side.tests = [str(test) for test in message["tests"]]
                side.asked = message
            case "test":
                side.index, side.sweeps = self.common.index(str(message["test"])), 0
                side.asked = message
            case "sweep":
                side.sweeps += 1
                side.asked = message
            case _:
                side.asked = message

    def _check(self, side: DuetSide) -> None:
        """Whether it still lives and moves."""
        if side.ended:
            return
        status = side.process.exit_status
        if status is not None:
            how = f"was killed by signal {status - 128}" if status > 128 else f"ended with status {status}"
            raise SideEnded(f"{side.name}: pytest {how} {self._where(side)}.{self._log(side)}")
        if side.running and time.monotonic() - side.since > self._plan.deadline_s:
            raise SideEnded(
                f"{side.name} has not gone on for {self._plan.deadline_s:g} s {self._where(side)} "
                f"(--deadline allows more).{self._log(side)}"
            )

    def _where(self, side: DuetSide) -> str:
        if side.tests is None:
            return "before it had collected its tests"
        return f"in {self.common[side.index]}" if 0 <= side.index < len(self.common) else "between its tests"

    @staticmethod
    def _log(side: DuetSide) -> str:
        tail = side.process.log_tail(lines=_SHOWN_LINES)
        return f"\nIts output ends with:\n{tail}" if tail else ""

    # Answering

    def _next(self) -> tuple[DuetSide, DuetSide]:
        """Whose turn it is, and the other one."""
        head, base = self._sides[HEAD], self._sides[BASE]
        first, second = (head, base) if head.place <= base.place else (base, head)
        if head.place == base.place:
            if head.what == "step":
                steps = (head.step, base.step)
                first, second = ((head, base), (base, head))[self._turn_taker(head).choose(steps)]
            elif head.what == "test" and head.index % 2:
                first, second = base, head
        return first, second

    def _answer(self, side: DuetSide, other: DuetSide) -> None:
        assert side.asked is not None
        message = side.asked
        handler: Callable[[DuetSide, DuetSide, Message], Message] = getattr(self, f"_on_{side.what}")
        answer = handler(side, other, message)
        side.asked, side.since = None, time.monotonic()
        if side.channel is not None:  # else its process has ended, which is noticed next
            try:
                side.channel.send(answer)
            except Hangup:
                side.channel = None

    def _on_collected(self, _side: DuetSide, other: DuetSide, _message: Message) -> Message:
        head, base = self._sides[HEAD], self._sides[BASE]
        if other.what == "collected":  # the first of the two to be answered
            ours, theirs = head.tests or [], base.tests or []
            self.common = [test for test in ours if test in theirs]
            for name, only in (
                (HEAD, [t for t in ours if t not in theirs]),
                (BASE, [t for t in theirs if t not in ours]),
            ):
                self.notes += [f"only at {name}, so not compared: {test}" for test in only]
            self._say(
                f"{len(self.common)} tests measure on both sides"
                if len(self.common) != 1
                else "1 test measures on both sides"
            )
        return {"tests": self.common}

    def _on_test(self, _side: DuetSide, other: DuetSide, _message: Message) -> Message:
        return {"stop": f"{other.name} has ended" if other.ended else ""}

    def _on_sweep(self, side: DuetSide, other: DuetSide, message: Message) -> Message:
        foreign = [str(one) for one in message["foreign"]]
        if foreign:
            raise SideEnded(_foreign(side, foreign))
        number = (side.index, side.sweeps)
        if number not in self._pairs:
            if side.place == other.place and other.asked is not None:
                self._pairs[number] = self._pair(side, other.asked, message)
            else:
                self._alone(side, str(message["name"]), f"{other.name} does not measure it")
                return {"points": None}
        return self._pairs[number]

    def _pair(self, side: DuetSide, theirs: Message, ours: Message) -> Message:
        head, base = (ours, theirs) if side.name == HEAD else (theirs, ours)
        if head["name"] != base["name"]:
            test = self.common[side.index]
            self.notes.append(
                f"not compared: {test} measures {head['name']!r} at head where base measures {base['name']!r}"
            )
            return {"points": None}
        points = [*head["points"], *(point for point in base["points"] if point not in head["points"])]
        return {"points": points}

    def _alone(self, side: DuetSide, name: str, why: str) -> None:
        self.notes.append(f"not compared: {name!r} of {self.common[side.index]} at {side.name}: {why}")

    def _on_step(self, side: DuetSide, other: DuetSide, _message: Message) -> Message:
        number = (side.index, side.sweeps)
        turns = self._turn_taker(side)
        together = other.what == "step" and (other.index, other.sweeps) == number
        if not together and not other.swept.get(number):
            self.notes.append(f"not compared: {self.common[side.index]}: {other.name} could not go on")
            return {"abandon": f"{other.name} could not go on"}
        mine, theirs = side.step, other.step if together else None
        steps = (mine, theirs) if side.name == HEAD else (theirs, mine)
        return asdict(turns.turn(0 if side.name == HEAD else 1, steps))

    def _turn_taker(self, side: DuetSide) -> Turns:
        return self._turns.setdefault((side.index, side.sweeps), Turns())

    def _on_over(self, side: DuetSide, other: DuetSide, message: Message) -> Message:
        test = str(message["test"])
        self._measured.setdefault(f"{side.name} {test}", message)
        if side.name == BASE:
            return {}
        if other.what == "over" and other.asked is not None and other.asked["test"] == test:
            self._measured.setdefault(f"{BASE} {test}", other.asked)
        base: Message = self._measured.get(f"{BASE} {test}", {})
        if message["record"] is None or base.get("record") is None:
            return {"record": None, "why": self._why(other, test, str(base.get("failed") or ""))}
        self.compared.append(test)
        return {"record": base["record"]}

    @staticmethod
    def _why(base: DuetSide, test: str, failed: str) -> str:
        outcome, text = base.results.get(test, ("", ""))
        if failed:
            return f"base fails: {failed}"
        if outcome:
            return f"base {outcome}: {text}"
        return "base has ended" if base.ended else "there is nothing that both sides measured"


def _foreign(side: DuetSide, modules: Sequence[str]) -> str:
    shown = "\n".join(f"  {one}" for one in modules[:6])
    return (
        f"{side.name} does not run its own code: it imported from {side.home}, and not from its worktree,\n{shown}\n"
        "so both sides would be the same. The project is installed there in editable mode.\n"
        f"Give {side.name} an environment in which its own version is installed: --python-{side.name} EXE"
    )


def statuses(sides: Sequence[DuetSide], deadline_s: float, tick: Callable[[], None]) -> dict[str, int]:
    """The exit statuses of sides that have run their tests.

    Raises:
        SideEnded: one doesn't end.
    """
    end = time.monotonic() + deadline_s
    found: dict[str, Any] = {}
    while len(found) < len(sides):
        found = {side.name: side.process.exit_status for side in sides if side.process.exit_status is not None}
        if time.monotonic() > end:
            stuck = next(side for side in sides if side.name not in found)
            raise SideEnded(f"{stuck.name} has run its tests and does not end.{DuetConductor._log(stuck)}")
        tick()
        time.sleep(_POLL_S / 2)
    return found
