"""Mutations of recorded inputs: fast, repeatable by their seed, and made for formats with lengths in them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

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


class Mutator:
    """Endless mutations of a corpus.

    Args:
        words: Pieces of the format, which are put in as they are.
    """

    def __init__(self, corpus: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self._corpus, self._pieces = list(corpus), [*words, *_EDGES]
        self._random = random.Random(seed)

    def inputs(self) -> Iterator[bytes]:
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
