"""Gives two pytest processes their turns, so that only one of them works at any time.

Both run the same tests in the same order. Each asks before its next action (``measure.channel``) and waits for the
answer; the side that is behind is answered first. Inside a sweep that both measure, ``measure.turns`` decides.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from pytest_gpuperf.cli.duet.side_process import SideEnded, SideProcess
from pytest_gpuperf.clock import time
from pytest_gpuperf.device import DeviceLock, LockId
from pytest_gpuperf.measure.channel import BASE, HEAD, PROTOCOL, Channel, Hangup, Message, Welcome
from pytest_gpuperf.measure.turns import BlockDecision, Turns
from pytest_gpuperf.model.codec import from_builtins

_POLL_S = 0.1
#: Longest pause inside a message of a side.
_MESSAGE_S = 30.0
_SHOWN_LINES = 25


@dataclass(frozen=True)
class DuetPlan:
    """Measuring plan of both sides.

    Attributes:
        deadline_s: Longest time that a side may run without a message.
        title: Names of both sides, for the reports.
        notes: What is not compared, as far as it is known before.
    """

    blocks: int
    alternations: int | None
    window_s: float
    deadline_s: float
    title: str = ""
    notes: tuple[str, ...] = ()


class DuetConductor:
    """The command's end of both connections.

    Attributes:
        common: Tests that both sides run.
        only_new: Whether base runs none of head's tests, and could collect its tests.
        compared: Tests that head compared with base.
        notes: Notes to print at the end.
    """

    def __init__(
        self, head: SideProcess, base: SideProcess, listener: socket.socket, plan: DuetPlan, say: Callable[[str], None]
    ) -> None:
        self._sides = {HEAD: head, BASE: base}
        self._listener, self._plan, self._say = listener, plan, say
        self._unknown: list[Channel] = []
        self._locks = ExitStack()
        self._lock_id: LockId | None = None
        self._turns: dict[tuple[int, int], Turns] = {}
        self._pairs: dict[tuple[int, int], Message] = {}
        self._measured: dict[str, Message] = {}
        self.common: list[str] = []
        self.only_new = False
        self.compared: list[str] = []
        self.notes = list(plan.notes)

    def run(self, tick: Callable[[], None]) -> None:
        """Answer both sides until they have run their tests, and call ``tick`` several times a second.

        Raises:
            SideEnded: A side died, hangs, or can't be measured.
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
        """Handle the messages that arrive within a moment."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            for channel in (*self._unknown, *(s.channel for s in self._sides.values() if s.channel and not s.ended)):
                selector.register(channel, selectors.EVENT_READ, channel)
            ready = selector.select(_POLL_S)
        for key, _ in ready:
            if key.data is None:
                self._unknown.append(Channel(self._listener.accept()[0], _MESSAGE_S))
            elif key.data in self._unknown:
                self._greet(key.data)
            else:
                self._receive(next(side for side in self._sides.values() if side.channel is key.data))
        for side in self._sides.values():
            self._check(side)

    def _greet(self, channel: Channel) -> None:
        self._unknown.remove(channel)
        try:
            hello = channel.receive()
            side = self._sides[str(hello["side"])]
        except (Hangup, KeyError):
            channel.close()  # not one of the two sides
            return
        if hello.get("protocol") != PROTOCOL:
            raise SideEnded(
                side.name,
                f"{side.name} has pytest-gpuperf {hello.get('gpuperf')}, which doesn't work with this version of "
                "gpuperf duet.\nInstall the same version on both sides.",
            )
        lock_id = LockId(**hello["lock"])
        if self._lock_id is None:
            self._lock_id = lock_id
            self._locks.enter_context(
                DeviceLock(lock_id, lambda holder: self._say(f"waiting for the device: {holder} is measuring on it"))
            )
        elif lock_id != self._lock_id:
            raise SideEnded(
                side.name,
                f"{side.name} is on another device, {lock_id.device} instead of {self._lock_id.device}.\n"
                "Name one for both: -- --gpuperf-device DEVICE",
            )
        plan = self._plan
        side.channel = channel
        side.since = time.monotonic()
        facts = (plan.blocks, plan.alternations, plan.window_s, str(side.home), str(side.tree), plan.title)
        channel.send(asdict(Welcome(*facts)))

    def _receive(self, side: SideProcess) -> None:
        assert side.channel is not None
        try:
            message = side.channel.receive()
        except Hangup:
            # The process may just have ended; its exit status then says more.
            side.channel.close()
            side.channel = None
            return
        side.since = time.monotonic()
        match message["kind"]:
            case "sweep_ended":
                side.finished_sweeps[side.index, side.sweeps] = bool(message["complete"])
            case "not_passed":
                side.results[str(message["test"])] = (str(message["outcome"]), str(message["reason"]))
            case "bye":
                side.ended = True
            case "collected":
                side.tests = [str(test) for test in message["tests"]]
                side.request = message
            case "begin_test":
                side.index, side.sweeps = self.common.index(str(message["test"])), 0
                side.request = message
            case "begin_sweep":
                side.sweeps += 1
                side.request = message
            case _:
                side.request = message

    def _check(self, side: SideProcess) -> None:
        """Raise ``SideEnded`` unless the side is alive and makes progress."""
        if side.ended:
            return
        status = side.process.exit_status
        if status is not None:
            how = f"was killed by signal {status - 128}" if status > 128 else f"ended with status {status}"
            raise SideEnded(side.name, f"{side.name}: pytest {how} {self._where(side)}.{self._log(side)}")
        if side.running and time.monotonic() - side.since > self._plan.deadline_s:
            raise SideEnded(
                side.name,
                f"{side.name} made no progress for {self._plan.deadline_s:g} s {self._where(side)} "
                f"(--deadline allows more).{self._log(side)}",
            )

    def _where(self, side: SideProcess) -> str:
        if side.tests is None:
            return "before it had collected its tests"
        return f"in {self.common[side.index]}" if 0 <= side.index < len(self.common) else "between its tests"

    @staticmethod
    def _log(side: SideProcess) -> str:
        tail = side.process.log_tail(lines=_SHOWN_LINES)
        return f"\nIts output ends with:\n{tail}" if tail else ""

    # Answering

    def _next(self) -> tuple[SideProcess, SideProcess]:
        """Return the side to answer, and its peer."""
        head, base = self._sides[HEAD], self._sides[BASE]
        first, second = (head, base) if head.position <= base.position else (base, head)
        if head.position == base.position:
            if head.request_kind == "next_step":
                steps, turns = (head.step, base.step), self._turn_taker(head)
                # Before head has decided about a block, neither side begins it.
                chosen = 0 if turns.undecided_block(steps) is not None else turns.choose(steps)
                first, second = ((head, base), (base, head))[chosen]
            elif head.request_kind == "begin_test" and head.index % 2:
                first, second = base, head
        return first, second

    def _answer(self, side: SideProcess, peer: SideProcess) -> None:
        assert side.request is not None
        message = side.request
        handler: Callable[[SideProcess, SideProcess, Message], Message] = getattr(self, f"_on_{side.request_kind}")
        answer = handler(side, peer, message)
        side.request, side.since = None, time.monotonic()
        if side.channel is not None:  # if it is None, the process has ended, and _check reports it
            try:
                side.channel.send(answer)
            except Hangup:
                side.channel = None

    def _on_collected(self, _side: SideProcess, peer: SideProcess, _message: Message) -> Message:
        head, base = self._sides[HEAD], self._sides[BASE]
        if peer.request_kind == "collected":  # the first of the two to be answered
            ours, theirs = head.tests or [], base.tests or []
            self.common = [test for test in ours if test in theirs]
            self.only_new = bool(ours) and not self.common
            self.notes += [f"only at {HEAD}, so not compared: {test}" for test in ours if test not in theirs]
            self.notes += [f"only at {BASE}, so not compared: {test}" for test in theirs if test not in ours]
            count = len(self.common)
            self._say(f"{count} tests measure on both sides" if count != 1 else "1 test measures on both sides")
        return {"tests": self.common, "notes": list(self.notes)}

    def _on_begin_test(self, _side: SideProcess, peer: SideProcess, _message: Message) -> Message:
        return {"stop_reason": f"{peer.name} has ended" if peer.ended else ""}

    def _on_begin_sweep(self, side: SideProcess, peer: SideProcess, message: Message) -> Message:
        modules = [str(module) for module in message["checkout_modules"]]
        if modules:
            raise SideEnded(side.name, _imports_from_checkout(side, modules))
        number = (side.index, side.sweeps)
        if number not in self._pairs:
            if side.position == peer.position and peer.request is not None:
                self._pairs[number] = self._pair(side, peer.request, message)
            else:
                self._note_alone(side, str(message["name"]), f"{peer.name} does not measure it")
                return {"points": None}
        return self._pairs[number]

    def _pair(self, side: SideProcess, theirs: Message, ours: Message) -> Message:
        head, base = (ours, theirs) if side.name == HEAD else (theirs, ours)
        if head["name"] != base["name"]:
            test = self.common[side.index]
            self.notes.append(
                f"not compared: {test} measures {head['name']!r} at head where base measures {base['name']!r}"
            )
            return {"points": None}
        points = [*head["points"], *(point for point in base["points"] if point not in head["points"])]
        return {"points": points}

    def _note_alone(self, side: SideProcess, name: str, reason: str) -> None:
        self.notes.append(f"not compared: {name!r} of {self.common[side.index]} at {side.name}: {reason}")

    def _on_next_step(self, side: SideProcess, peer: SideProcess, _message: Message) -> Message:
        number = (side.index, side.sweeps)
        turns = self._turn_taker(side)
        alternating = peer.request_kind == "next_step" and (peer.index, peer.sweeps) == number
        if not alternating and not peer.finished_sweeps.get(number):
            self.notes.append(f"not compared: {self.common[side.index]}: {peer.name} could not continue")
            return {"abandon_reason": f"{peer.name} could not continue"}
        mine, theirs = side.step, peer.step if alternating else None
        steps = (mine, theirs) if side.name == HEAD else (theirs, mine)
        if turns.undecided_block(steps) is not None and peer.request is not None:
            return {"runs_of_base": peer.request["runs"]}
        return asdict(turns.turn(0 if side.name == HEAD else 1, steps))

    def _on_block_decision(self, side: SideProcess, _peer: SideProcess, message: Message) -> Message:
        self._turn_taker(side).decisions[int(message["block"])] = from_builtins(BlockDecision, message["decision"])
        return {}

    def _turn_taker(self, side: SideProcess) -> Turns:
        return self._turns.setdefault((side.index, side.sweeps), Turns())

    def _on_end_test(self, side: SideProcess, peer: SideProcess, message: Message) -> Message:
        test = str(message["test"])
        self._measured.setdefault(f"{side.name} {test}", message)
        if side.name == BASE:
            return {}
        if peer.request_kind == "end_test" and peer.request is not None and peer.request["test"] == test:
            self._measured.setdefault(f"{BASE} {test}", peer.request)
        base: Message = self._measured.get(f"{BASE} {test}", {})
        if message["record"] is None or base.get("record") is None:
            return {"record": None, "reason": self._reason(peer, test, str(base.get("error") or ""))}
        self.compared.append(test)
        return {"record": base["record"]}

    @staticmethod
    def _reason(base: SideProcess, test: str, error: str) -> str:
        """Return why base has no record of a test; empty if the sides measured nothing in common."""
        outcome, reason = base.results.get(test, ("", ""))
        if error:
            return f"base fails: {error}"
        if outcome:
            return f"base {outcome}: {reason}"
        return "base has ended" if base.ended else ""


def _imports_from_checkout(side: SideProcess, modules: Sequence[str]) -> str:
    listed = "\n".join(f"  {module}" for module in modules[:6])
    return (
        f"{side.name} does not run its own code: it imported from {side.home}, not from its worktree:\n{listed}\n"
        "Both sides would measure the same code. The project is installed there in editable mode.\n"
        f"Give {side.name} an environment in which its own version is installed: --python-{side.name} EXE"
    )


def statuses(sides: Sequence[SideProcess], deadline_s: float, tick: Callable[[], None]) -> dict[str, int]:
    """Wait until both pytests have ended; return their exit statuses.

    Raises:
        SideEnded: A side does not end in time.
    """
    end = time.monotonic() + deadline_s
    ended: dict[str, int] = {}
    while len(ended) < len(sides):
        ended = {side.name: side.process.exit_status for side in sides if side.process.exit_status is not None}
        if time.monotonic() > end:
            stuck = next(side for side in sides if side.name not in ended)
            raise SideEnded(stuck.name, f"{stuck.name} has run its tests and does not end.{DuetConductor._log(stuck)}")
        tick()
        time.sleep(_POLL_S / 2)
    return ended
