"""A text that has to stay under a size: what gives way first, and what is said about that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextPart:
    """A part of a text.

    Attributes:
        variants: the same in several lengths, the whole first; the last may be empty.
        rank: blocks of a lower rank are given room first.
        what: it is called in the note on what was cut, as ``full sweep``.
    """

    variants: tuple[str, ...]
    rank: int = 0
    what: str = "part"


def utf16_length(text: str) -> int:
    """Characters as the strictest count has them: UTF-16, in which one beyond the first plane counts twice."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def fit(blocks: Sequence[TextPart], most: int, note: Callable[[Counter[str]], str], joint: str = "\n\n") -> str:
    """The blocks one after the other, each as long as there is room for; of equal rank the first ones win.

    Args:
        most: characters of the whole, as ``size`` counts.
        note: what to say of what was cut, by ``what``; it is put behind the first block.
    """
    whole = joint.join(block.variants[0] for block in blocks if block.variants[0])
    if utf16_length(whole) <= most:
        return whole
    every = Counter(block.what for block in blocks)
    room = most - utf16_length(note(every)) - len(joint)
    chosen = [""] * len(blocks)
    cut: Counter[str] = Counter()
    for index in sorted(range(len(blocks)), key=lambda index: blocks[index].rank):
        block = blocks[index]
        fitting = (one for one in block.variants if utf16_length(one) + len(joint) <= room)
        chosen[index] = next(fitting, "")
        room -= utf16_length(chosen[index]) + len(joint)
        if chosen[index] != block.variants[0]:
            cut[block.what] += 1
    parts = [chosen[0], note(cut), *chosen[1:]]
    return joint.join(part for part in parts if part)
