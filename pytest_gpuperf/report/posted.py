"""What becomes a comment on a pull request: its marker, its size, and text that somebody else wrote."""

from __future__ import annotations

import re

#: GitHub refuses longer ones.
MOST_CHARACTERS = 65_536
#: By it the comment is found again, to be updated in place.
MARKER = "<!-- gpuperf -->"
_MARKER = re.compile(r"<!--\s*(?:pytest-)?gpuperf\b[^>\n]*-->")
_CUT = "> The report is cut here to what GitHub takes. All of it is among the artifacts of the run.\n\n"
_FOREIGN = "> Measured and written by the code of a fork: it says what that code says.\n\n"
#: Text that calls people, links issues or shows as something else than it is. A word joiner (U+2060) behind the first
#: character is not seen, and leaves it as text, in code and outside of it.
_ACTIVE = re.compile(
    r"@(?=\w)|#(?=\d)|!(?=\[)|\](?=[(\[:])|<(?=[A-Za-z/!])(?!/?(?:details|summary|br|sub|sup|b|i)\s*/?>)"
)


def prepared(text: str, *, trusted: bool = True) -> tuple[str, str]:
    """A comment's body, and the marker to find its predecessor by.

    The marker is the report's own, else ``MARKER``. A text that is too long is cut at the end of a line.

    Args:
        trusted: it was written by code of the repository itself. Otherwise nobody is called, nothing is linked, and it
            is said where it comes from.
    """
    # NUL and surrogates are no text; a lone one would make the whole request fail.
    text = text.encode(errors="replace").decode().replace("\0", "")
    found = _MARKER.search(text)
    marker = found[0] if found and trusted else MARKER
    text = text.replace(marker, "", 1) if trusted else _FOREIGN + inactive(text)
    body = f"{marker}\n{text.lstrip()}"
    if _length(body) <= MOST_CHARACTERS:
        return body, marker
    head = f"{marker}\n{_CUT}"
    kept = _cut(text.lstrip(), MOST_CHARACTERS - _length(head))
    return head + kept, marker


def inactive(text: str) -> str:
    """Markdown in which nothing calls people, links or embeds; headings, tables and folded parts stay."""
    return _ACTIVE.sub(lambda found: f"{found[0]}\u2060", _MARKER.sub("", text))


def _length(text: str) -> int:
    """As the strictest count has it: UTF-16, in which a character beyond the first plane counts twice."""
    return len(text.encode("utf-16-le")) // 2


def _cut(text: str, characters: int) -> str:
    kept = text.encode("utf-16-le")[: 2 * max(characters, 0)].decode("utf-16-le", errors="ignore")
    return kept.rpartition("\n")[0] or kept
