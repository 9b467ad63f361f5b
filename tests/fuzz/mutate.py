"""Mutations of recorded inputs: fast, repeatable by their seed, and made for formats with lengths in them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

#: Numbers at the edges of fields, in the forms in which formats write them.
_EDGES = [
    *(bytes([value]) for value in (0, 1, 4, 8, 0x20, 0x7F, 0x80, 0xFF)),
    *(
        value.to_bytes(size, order)
        for value in (0, 1, 0x7FFF, 0xFFFF)
        for size in (2, 3, 4)
        for order in ("big", "little")
    ),
    *(value.to_bytes(4, order) for value in (0x7FFFFFFF, 0xFFFFFFFF, 0x80000000) for order in ("big", "little")),
    *(
        b"0",
        b"-1",
        b"9" * 5,
        b"9" * 30,
        b"1e999",
        b"NaN",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"[" * 50,
        b'{"a":' * 50,
    ),
    *(b"\r\n", b"\n", b":", b",", b'"', b"\\u0000", b"\xff\xfe", b" ", b"\0"),
]
_MOST_BYTES = 6000
#: Values of another type, or at the edge of theirs, for any place of a JSON document.
_VALUES: list[Any] = [
    *(None, True, 0, -1, 10**30, 0.5, 1e308, float("inf"), float("nan")),
    *("", "x", "1", "\x00", "m", "x" * 300, [], {}, [[]], [None], [{}], {"": []}, [1, [2]]),
]


class Mutator:
    """Endless mutations of a corpus.

    Args:
        words: Pieces of the format, which are put in as they are.
    """

    def __init__(self, corpus: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self._corpus, self._pieces = list(corpus), [*words, *_EDGES]
        self._random = random.Random(seed)

    def inputs(self) -> Iterator[bytes]:
        """Yield mutations of bytes and, where the corpus is JSON, of its documents in turn with them."""
        documents = [data for data in self._corpus if _is_json(data)]
        if not documents:
            return self._bytes()
        return chain.from_iterable(zip(self._bytes(), self._documents(documents), strict=True))

    def _documents(self, corpus: Sequence[bytes]) -> Iterator[bytes]:
        choose, chance = self._random.choice, self._random.random
        while True:
            document = json.loads(choose(corpus))
            for _ in range(1 + int(chance() ** 2 * 4)):
                places = [(holder, key) for holder in _holders(document) for key in _keys(holder)]
                if not places:
                    break
                holder, key = choose(places)
                action = int(chance() * 4)
                if action == 0:
                    del holder[key]
                elif action == 1:
                    second, place = choose(places)
                    holder[key] = copy.deepcopy(second[place])
                else:
                    holder[key] = copy.deepcopy(choose(_VALUES))
            yield json.dumps(document).encode()

    def _bytes(self) -> Iterator[bytes]:
        choose, number = self._random.choice, self._random.random
        corpus, pieces = self._corpus, self._pieces
        while True:
            data = bytearray(choose(corpus))
            for _ in range(1 + int(number() ** 3 * 6)):
                size = len(data)
                at = int(number() * (size + 1))
                action = int(number() * 8)
                if action == 0 and at < size:
                    data[at] ^= 1 << int(number() * 8)
                elif action == 1 and at < size:
                    data[at] = int(number() * 256)
                elif action == 2:
                    data[at:at] = choose(pieces)
                elif action == 3:
                    piece = choose(pieces)
                    data[at : at + len(piece)] = piece
                elif action == 4:
                    del data[at : at + 1 + int(number() ** 3 * 64)]
                elif action == 5:
                    del data[at:]
                elif action == 6:
                    length = 1 + int(number() ** 2 * 100)
                    data[at:at] = data[at : at + length]
                else:
                    second = choose(corpus)
                    begin = int(number() * (len(second) + 1))
                    data[at:] = second[begin:]
            yield bytes(data[:_MOST_BYTES])


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _holders(document: Any) -> Iterator[Any]:
    """Yield all objects and lists of a document."""
    stack = [document]
    while stack:
        holder = stack.pop()
        if isinstance(holder, dict | list):
            yield holder
            stack += holder.values() if isinstance(holder, dict) else holder
