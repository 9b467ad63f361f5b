"""Escaping of untrusted text (names of tests, sweeps and branches, error messages) for Markdown.

GitHub interprets more than Markdown: ``@name`` notifies people, and ``#12``, hashes and addresses become links. It
leaves code spans alone, so every text that is not plainly harmless becomes a code span.
"""

from __future__ import annotations

import html
import re

from pytest_gpuperf.safe_text import printable, redacted

#: Characters without meaning to Markdown and GitHub, except in the forms that the look-ahead excludes.
_HARMLESS = re.compile(
    r"(?!.*(?:www\.|gh-\d|~.*~|:\d+:|\]\())(?:[A-Za-z0-9 ,;'.%+/~()\[\]-]|:(?= )|(?<=\d):(?=\d))*", re.IGNORECASE
)
_SPECIAL = re.compile(r"[^A-Za-z0-9 ]")
_BACKTICKS = re.compile(r"`+")


def text(raw: str) -> str:
    """Return harmless text unchanged and any other text as code. Safe inside a table cell."""
    return raw if _HARMLESS.fullmatch(raw) else code(raw)


def code(raw: str) -> str:
    """Return a code span. Safe inside a table cell."""
    escaped = printable(redacted(raw))
    if not escaped.strip():
        return ""
    # A backtick would end the span and a pipe the cell; a backslash before either has no agreed meaning.
    return f"<code>{_SPECIAL.sub(_entity, escaped)}</code>" if set(escaped) & set("`|\\") else f"`{escaped}`"


def html_code(raw: str) -> str:
    """Return a code element for places where Markdown is not interpreted, as inside ``<summary>``."""
    return f"<code>{html.escape(printable(redacted(raw)))}</code>"


def _entity(match: re.Match[str]) -> str:
    # cmark searches for mail addresses after it decodes entities, but not across a tag.
    return f"&#{ord(match[0])};" + ("<wbr>" if match[0] == "@" else "")


def code_block(lines: list[str], language: str = "sh") -> list[str]:
    """Return a fenced code block whose content cannot end it and contains no invisible characters."""
    lines = [printable(redacted(line)) for line in lines]
    longest = max((len(ticks) for line in lines for ticks in _BACKTICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *lines, fence]


def shorten(raw: str, most: int = 80) -> str:
    """Shorten text in the middle: the beginning says where, the end says what."""
    if len(raw) <= most:
        return raw
    head = (most - 1) // 2
    return f"{raw[:head]}…{raw[len(raw) - (most - 1 - head) :]}"
