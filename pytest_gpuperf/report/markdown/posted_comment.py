"""The body of a comment on a pull request: its marker, its size limit, and text from untrusted code."""

from __future__ import annotations

import re

from pytest_gpuperf.report.markdown.comment import marker_line
from pytest_gpuperf.report.markdown.size_limit import utf16_length

#: Longest comment that GitHub accepts.
GITHUB_MAX_CHARACTERS = 65_536
#: Marker by which a later run finds the comment and updates it.
MARKER = "<!-- gpuperf -->"
_MARKER = re.compile(r"<!--\s*(?:pytest-)?gpuperf\b[^>\n]*-->")
_CUT = "> Shortened to GitHub's size limit; the full report is among the artifacts of the workflow run.\n\n"
_UNTRUSTED = "> Written by code from a fork, which is not trusted: check its figures before relying on them.\n\n"
#: Text that notifies people, creates links, or renders differently from how it reads.
_ACTIVE = re.compile(
    # An entity renders as its character, and an @ written as an entity also notifies.
    r"&(?:#\d+|#x[0-9a-f]+);?|&[a-z][a-z0-9]*;"
    r"|@(?=\w)|#(?=\d)|\bgh-(?=\d)|:(?=//)|www(?=\.)|!(?=\[)|\](?=[(\[:])"
    r"|<(?=[a-z/!])(?!/?(?:details|summary|code|wbr|br|sub|sup|b|i)\s*/?>)",
    re.IGNORECASE,
)
#: A word joiner is invisible, and deactivates the character before it, inside and outside of code.
_JOINER = "\u2060"


def comment_body(text: str, *, trusted: bool = True, name: str = "") -> tuple[str, str]:
    """Return the body of a comment, and the marker that identifies the previous comment.

    The marker comes from the report, else it is ``MARKER``. Too long a text is cut at the end of a line.

    Args:
        name: Name of a marker that replaces the one of the report.
        trusted: Whether code of the repository itself wrote the text. Otherwise mentions and links are deactivated, and
            the comment says that it comes from a fork.
    """
    # A single NUL or surrogate would make the request fail.
    text = text.encode(errors="replace").decode().replace("\0", "")
    match = _MARKER.search(text)
    existing = match[0] if match and trusted else ""
    marker = marker_line(name) if name else existing or MARKER
    text = text.replace(existing, "", 1) if trusted else _UNTRUSTED + neutralized(text)
    body = f"{marker}\n{text.lstrip()}"
    if utf16_length(body) <= GITHUB_MAX_CHARACTERS:
        return body, marker
    head = f"{marker}\n{_CUT}"
    kept = _cut(text.lstrip(), GITHUB_MAX_CHARACTERS - utf16_length(head))
    return head + kept, marker


def neutralized(text: str) -> str:
    """Deactivate mentions, links and embedded content; headings, tables and folded parts stay."""
    return _ACTIVE.sub(lambda match: match[0] + _JOINER, _MARKER.sub("", text))


def _cut(text: str, characters: int) -> str:
    kept = text.encode("utf-16-le")[: 2 * max(characters, 0)].decode("utf-16-le", errors="ignore")
    return kept.rpartition("\n")[0] or kept
