"""Text under a size limit: which parts are shortened first, and the note that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_gpuperf.report.figures import plural

_JOINT = "\n\n"


@dataclass(frozen=True)
class TextPart:
    """A part of a text.

    Attributes:
        variants: The same content in several lengths, the longest first; the last may be empty.
        rank: Parts of a lower rank get room first.
        name: Name of the part in the note on what was shortened, as ``full sweep``.
    """

    variants: tuple[str, ...]
    rank: int = 0
    name: str = "part"


def utf16_length(text: str) -> int:
    """Return the number of UTF-16 code units, the strictest way to count characters."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def fit(parts: Sequence[TextPart], limit: int, note: Callable[[Counter[str]], str]) -> str:
    """Join parts, each in the longest variant that there is room for; of equal ranks, earlier parts win.

    Args:
        limit: Largest length of the result, as counted by ``utf16_length``.
        note: Returns the note on shortened parts, from their counts by name. It follows the first part.
    """
    full = _JOINT.join(part.variants[0] for part in parts if part.variants[0])
    if utf16_length(full) <= limit:
        return full
    every = Counter(part.name for part in parts)
    room = limit - utf16_length(note(every)) - len(_JOINT)
    chosen = [""] * len(parts)
    shortened: Counter[str] = Counter()
    for index in sorted(range(len(parts)), key=lambda index: parts[index].rank):
        part = parts[index]
        fitting = (text for text in part.variants if utf16_length(text) + len(_JOINT) <= room)
        chosen[index] = next(fitting, "")
        room -= utf16_length(chosen[index]) + len(_JOINT)
        if chosen[index] != part.variants[0]:
            shortened[part.name] += 1
    texts = [chosen[0], note(shortened), *chosen[1:]]
    return _JOINT.join(text for text in texts if text)


def cut_note(advice: str, shortened: Counter[str]) -> str:
    """Return a note on shortened parts, with the advice how to get the full report."""
    parts = ", ".join(plural(count, name) for name, count in shortened.items())
    return f"> Shortened to fit GitHub's size limit for comments ({parts}). For the full report, {advice}."
