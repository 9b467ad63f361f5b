"""Text of others (names of tests, sweeps, branches, error messages) inside Markdown: it stays text.

GitHub turns more than Markdown into something else: ``@name`` notifies people, ``#12`` and hashes become links, and
what looks like an address does. All of it leaves code alone, so everything that isn't plainly harmless becomes code.
"""

from __future__ import annotations

import html
import re
import unicodedata

#: Nothing in it means anything to Markdown or to GitHub, unless it is one of the forms that the look-ahead excludes.
_HARMLESS = re.compile(
    r"(?!.*(?:www\.|gh-\d|~.*~|:\d+:|\]\())(?:[A-Za-z0-9 ,.%+/~()\[\]-]|:(?= )|(?<=\d):(?=\d))*", re.IGNORECASE
)
_SPECIAL = re.compile(r"[^A-Za-z0-9 ]")
_BACKTICKS = re.compile(r"`+")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def text(raw: str) -> str:
    """As it is where that is harmless, else as code. Fits a table's cell."""
    return raw if _HARMLESS.fullmatch(raw) else code(raw)


def code(raw: str) -> str:
    """A code span. Fits a table's cell."""
    shown = printable(raw)
    if not shown.strip():
        return ""
    # A backtick would end the span and a pipe the cell; a backslash before either has no agreed meaning.
    return f"<code>{_SPECIAL.sub(_entity, shown)}</code>" if set(shown) & set("`|\\") else f"`{shown}`"


def html_code(raw: str) -> str:
    """The same where Markdown isn't read, as inside ``<summary>``."""
    return f"<code>{html.escape(printable(raw))}</code>"


def _entity(match: re.Match[str]) -> str:
    # cmark looks for mail addresses after it has read the entities, but not across a tag.
    return f"&#{ord(match[0])};" + ("<wbr>" if match[0] == "@" else "")


def printable(raw: str) -> str:
    """With escapes instead of what can't be seen: line breaks, control characters, changes of the writing direction."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _INVISIBLE else character
        for character in raw
    )


def code_block(lines: list[str], language: str = "sh") -> list[str]:
    """A code block that its own content can't end, of lines that are what they look like."""
    lines = [printable(line) for line in lines]
    longest = max((len(found) for line in lines for found in _BACKTICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *lines, fence]


def shorten(raw: str, most: int = 80) -> str:
    """Cut in the middle: the beginning says where it is, the end what."""
    if len(raw) <= most:
        return raw
    head = (most - 1) // 2
    return f"{raw[:head]}…{raw[len(raw) - (most - 1 - head) :]}"


def without_credentials(url: str) -> str:
    """Comments are public."""
    return _CREDENTIALS.sub("", url)
