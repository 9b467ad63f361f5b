"""The protocol between ``gpuperf duet`` and the pytest processes of its two sides.

Messages are JSON objects with their length in front, over a unix socket that only its owner can reach. Nothing is
pickled: the sides may run different versions of everything.

A side sends messages of these kinds, and waits for an answer to each but the last three:

====================  ==========================================================  ====================================
kind                  fields                                                      answer
====================  ==========================================================  ====================================
``hello``             protocol, side, gpuperf (version), lock (a ``LockId``)      how to measure (``Welcome``)
``collected``         tests that measure, in order                                tests that both sides run, in order;
                                                                                  notes for the reports
``begin_test``        test                                                        stop_reason; empty to begin
``begin_sweep``       test, name, points, checkout_modules (imported from the     points of both sides in one order;
                      user's checkout instead of this side's)                     null if only this side measures it
``next_step``         fields of ``MeasureStep``; runs (of base, before a block)   fields of ``Turn``, abandon_reason, or
                                                                                  runs_of_base: decide, and ask again
``block_decision``    block, decision (a ``BlockDecision``)                       (nothing in it)
``end_test``          test, error, record                                         record of the other side, or null and
                                                                                  the reason
``sweep_ended``       complete (every step was taken)                             (none)
``not_passed``        test, outcome (failed or skipped), reason                   (none)
``bye``               (none: all tests are over)                                  (none)
====================  ==========================================================  ====================================

Only the side that was answered last acts; the other side waits.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.limits import MESSAGE_BYTES

PROTOCOL = 2
#: The environment variable of the sides with the socket, as ``SIDE:PATH``.
VARIABLE = "GPUPERF_DUET"
#: The names of the sides; base is the reference.
HEAD, BASE = "head", "base"

Message = dict[str, Any]

_LENGTH = struct.Struct("!Q")


class Hangup(Exception):
    """The other end is gone."""


@dataclass(frozen=True)
class Welcome:
    """Measuring plan of a side.

    Attributes:
        alternations: Pairs of windows in each block; None for what the measured spreads suggest.
        home: Directory of the user's checkout.
        tree: Directory of this side's checkout, which may be the same.
        title: Names of both sides, for the reports.
    """

    blocks: int
    alternations: int | None
    window_s: float
    home: str
    tree: str
    title: str = ""


class Channel:
    """An end of the socket.

    Args:
        patience_s: Longest pause inside a message; None for any. A side waits for its turn as long as it takes, and
            ``gpuperf duet`` ends a side that makes no progress.
    """

    def __init__(self, connection: socket.socket, patience_s: float | None = None) -> None:
        connection.settimeout(patience_s)
        self._socket = connection

    @classmethod
    def connect(cls, path: str) -> Channel:
        """Return the end of a side.

        Raises:
            Hangup: Nothing listens at the path.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            raise Hangup(str(error)) from error
        return cls(connection)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            Hangup: The other end is gone.
        """
        body = json.dumps(message, allow_nan=False).encode()
        try:
            self._socket.sendall(_LENGTH.pack(len(body)) + body)
        except OSError as error:
            raise Hangup(str(error)) from error

    def receive(self) -> Message:
        """Wait for a message.

        Raises:
            Hangup: The other end is gone, or sends something else.
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > MESSAGE_BYTES:
            raise Hangup(f"a message of {length} bytes, more than {MESSAGE_BYTES}")
        try:
            message = json.loads(self._exactly(length))
        except (ValueError, RecursionError) as error:
            raise Hangup(f"not a message: {error}") from error
        if not isinstance(message, dict):
            raise Hangup(f"not a message: {message!r}")
        return message

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = self._socket.recv(min(count, 1 << 20))
            except OSError as error:
                raise Hangup(str(error)) from error
            if not part:
                raise Hangup("the connection was closed")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._socket.close()
