"""Text made safe to show: without secrets, and without anything that a terminal or a CI system would execute.

Names of tests, models and branches, answers of servers and stored records are untrusted: an escape sequence among them
can rewrite the screen or the clipboard, and a line that begins with ``::`` is a command to GitHub Actions. URLs carry
passwords. Every way out of this package leads through this module: error messages (``GpuperfError``), what the
``gpuperf`` command prints (``SafeStream``), and the lines that the plugin writes to pytest's terminal (``safe``).
Reports in Markdown and HTML escape their markup on top of it (``report/escape.py``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

MASK = "***"

# The password may contain an @, so the last @ before the path ends the user information.
_USERINFO = re.compile(r"(?<=://)[^/\s?#'\"<>]*@")
_SECRET_NAME = (
    r"[\w.-]*(?:token|secret|password|passwd|passphrase|pwd|signature|credential|(?:api|access|secret)[-_]?key)"
)
_PARAMETER = re.compile(rf"([?&;](?:{_SECRET_NAME}|sig|auth|key|AWSAccessKeyId)=)[^&\s#'\"<>\\]+", re.IGNORECASE)
_HEADER = re.compile(
    r"((?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?(?:(?:basic|bearer|token|digest)\s+)?)[^\s'\",\\]+", re.IGNORECASE
)
# Not every name that ends in "token": some figures count tokens.
_ARGUMENT = re.compile(
    r"""(\b(?:\w*(?:password|passwd|passphrase|secret|secret_key|secret_access_key|api_key)"""
    r"""|(?:access|auth|private)_token)(?:['"]\s*[:=]|\s*=)\s*)"""
    r"""(?:(["'])(?:(?!\2)[^\n\\])*|[^\s'",;&)}\]\\]+)""",
    re.IGNORECASE,
)

#: Unicode categories of invisible characters: control and format characters, surrogates, private use, line separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
# Commands of Azure Pipelines, TeamCity and older GitHub runners are read anywhere in a line, those of GitHub Actions at
# its beginning.
_COMMAND_ANYWHERE = re.compile(r"#(?=#(?:\[|vso\[|teamcity\[))")
_COMMAND_AT_START = re.compile(r"^(\s*)(?=::)", re.MULTILINE)


def redacted(text: str) -> str:
    """Replace passwords and tokens in URLs, headers and printed arguments by asterisks."""
    text = _USERINFO.sub(f"{MASK}@", text)
    text = _PARAMETER.sub(rf"\g<1>{MASK}", text)
    text = _HEADER.sub(rf"\g<1>{MASK}", text)
    return _ARGUMENT.sub(rf"\g<1>\g<2>{MASK}", text)


def printable(text: str) -> str:
    """Return one line: invisible characters (line breaks, control characters, changes of direction) become escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _INVISIBLE else character
        for character in text
    )


def lines_text(lines: Iterable[str]) -> str:
    """Join lines, each of which stays one line whatever it contains."""
    return "\n".join(map(printable, lines))


def safe(text: str) -> str:
    """Return text of any number of lines, without secrets, escape sequences and commands to a CI system."""
    shown = _COMMAND_ANYWHERE.sub(r"#\\", redacted(visible(text)))
    return _COMMAND_AT_START.sub(r"\1\\", shown)


def visible(text: str) -> str:
    """Escape invisible characters except line feeds and tabs."""
    if text.isprintable():
        return text
    return re.sub(r"[^\n\t]+", lambda match: printable(match[0]), text)


class SafeStream:
    """A text stream that makes what is written safe to show, and writes it to another stream.

    Characters that the stream's encoding lacks are written as escapes.

    Args:
        stream: The stream to write to; all methods except ``write`` are its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._line = ""  # what was written since the last line feed

    def write(self, text: str) -> int:
        """Write text; return the number of characters it had."""
        written, shown = safe(self._line), safe(self._line + text)
        # A command whose beginning is written already is split by a backslash.
        shown = shown[len(written) :] if shown.startswith(written) else f"\\{safe(text)}"
        self._line = (self._line + text).rpartition("\n")[2]
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def unfiltered(stream: Any) -> Any:
    """Return the stream behind a ``SafeStream``, for output of another program that has been made safe there."""
    return stream.stream if isinstance(stream, SafeStream) else stream
