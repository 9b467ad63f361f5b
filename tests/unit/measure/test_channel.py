from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.measure.channel import Channel, Hangup

Pair = tuple[Channel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    yield Channel(ours), theirs
    ours.close()
    theirs.close()


def test_messages_arrive_whole_and_in_order(pair: Pair) -> None:
    here, there = pair[0], Channel(pair[1])
    messages: list[dict[str, Any]] = [
        {"kind": "next_step", "run": 1},
        {"kind": "end_test", "record": {"text": "ä" * 20_000}},
        {},
    ]
    for message in messages:
        here.send(message)
    assert [there.receive() for _ in messages] == messages


@pytest.mark.parametrize(
    "sent",
    [b"", b"\0\0", struct.pack("!Q", 10) + b"{}", struct.pack("!Q", 2) + b"{]", struct.pack("!Q", 2) + b"[]"],
    ids=["nothing", "half a length", "half a message", "no JSON", "no object"],
)
def test_what_is_no_message_is_a_hangup(pair: Pair, sent: bytes) -> None:
    here, theirs = pair
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(Hangup):
        here.receive()


def test_sending_to_nobody_is_a_hangup(pair: Pair) -> None:
    here, theirs = pair
    theirs.close()
    with pytest.raises(Hangup):
        here.send({"kind": "bye"})


def test_nobody_listening_is_a_hangup(tmp_path: Path) -> None:
    with pytest.raises(Hangup):
        Channel.connect(str(tmp_path / "nowhere"))


def test_numbers_that_json_lacks_are_refused(pair: Pair) -> None:
    here, _ = pair
    with pytest.raises(ValueError, match="not JSON compliant"):
        here.send({"p50": float("nan")})


def test_a_message_above_the_limit_ends_the_connection(pair: Pair) -> None:
    channel, other_end = pair
    other_end.sendall(struct.pack("!Q", 1 << 40))
    with pytest.raises(Hangup, match="a message of 1099511627776 bytes"):
        channel.receive()


def test_a_message_that_is_not_sent_to_its_end_ends_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("!Q", 100) + b"{")
        with pytest.raises(Hangup, match="timed out"):
            Channel(ours, patience_s=0.1).receive()
