"""What becomes a comment on a pull request: its marker, its size, and text that somebody else wrote."""

from __future__ import annotations

import re

from pytest_gpuperf.report.markdown.comment import marker_line
from pytest_gpuperf.report.markdown.size_limit import utf16_length

#: GitHub refuses longer ones.
GITHUB_MAX_CHARACTERS = 65_536
#: By it the comment is found again, to be updated in place.
MARKER = "<!-- gpuperf -->"
_MARKER = re.compile(r"<!--\s*(?:pytest-)?gpuperf\b[^>\n]*-->")
_CUT = "> Shortened to GitHub's size limit; the full report is among the artifacts of the workflow run.\n\n"
_FOREIGN = "> Written by code from a fork, which is not trusted: check its figures before relying on them.\n\n"
#: Text that calls people, links, or shows as something else than it is.
_ACTIVE = re.compile(
    # A letter's number shows as the letter, and an @ written so calls as well.
    r"&(?:#\d+|#x[0-9a-f]+);?|&[a-z][a-z0-9]*;"
    r"|@(?=\w)|#(?=\d)|\bgh-(?=\d)|:(?=//)|www(?=\.)|!(?=\[)|\](?=[(\[:])"
    r"|<(?=[a-z/!])(?!/?(?:details|summary|code|wbr|br|sub|sup|b|i)\s*/?>)",
    re.IGNORECASE,
)
#: A word joiner behind it is not seen, and leaves it as text, in code and outside of it.
_JOINER = "\u2060"


def comment_body(text: str, *, trusted: bool = True, name: str = "") -> tuple[str, str]:
    """A comment's body, and the marker to find its predecessor by.

    The marker is the report's own, else ``MARKER``. A text that is too long is cut at the end of a line.

    Args:
        name: for a marker of that name in the place of the report's own.
        trusted: it was written by code of the repository itself. Otherwise nobody is called, nothing is linked, and it
            is said where it comes from.
    """
    # NUL and surrogates are no text; a lone one would make the whole request fail.
    text = text.encode(errors="replace").decode().replace("\0", "")
    found = _MARKER.search(text)
    own = found[0] if found and trusted else ""
    marker = marker_line(name) if name else own or MARKER
    text = text.replace(own, "", 1) if trusted else _FOREIGN + neutralized(text)
    body = f"{marker}\n{text.lstrip()}"
    if utf16_length(body) <= GITHUB_MAX_CHARACTERS:
        return body, marker
    head = f"{marker}\n{_CUT}"
    kept = _cut(text.lstrip(), GITHUB_MAX_CHARACTERS - utf16_length(head))
    return head + kept, marker


def neutralized(text: str) -> str:
    """Markdown in which nothing calls people, links or embeds; headings, tables and folded parts stay."""
    return _ACTIVE.sub(lambda found: found[0] + _JOINER, _MARKER.sub("", text))


def _cut(text: str, characters: int) -> str:
    kept = text.encode("utf-16-le")[: 2 * max(characters, 0)].decode("utf-16-le", errors="ignore")
    return kept.rpartition("\n")[0] or kept
