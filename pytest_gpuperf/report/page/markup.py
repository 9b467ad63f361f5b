"""HTML whose every text and attribute is escaped, because there is no other way to write one.

Names of tests, branches and devices are other people's text. Only ``Markup`` goes into a page as it is, and only
``element`` and ``joined`` make it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

_VOID = frozenset({"meta", "input", "wbr"})
#: HTML lets their ends be left out, and a page has tens of thousands of them.
_UNCLOSED = frozenset({"td", "th", "tr", "li"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """One element.

    Args:
        name: never from outside.
        children: text, or elements; None is left out.
        attributes: ``class_`` is ``class``, ``data_x`` is ``data-x``; False and None leave it out, True is its name.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        written.append(f" {attribute}" if value is True else f' {attribute}="{escape(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    verdict_counts = "" if name in _VOID or name in _UNCLOSED else f"</{name}>"
    return Markup(opening + joined(children) + verdict_counts)


def joined(children: Iterable[str | None]) -> Markup:
    """Elements and texts behind each other."""
    return Markup(
        "".join(one if isinstance(one, Markup) else escape(one, quote=False) for one in children if one is not None)
    )


def data_block(name: str, data: Any) -> Markup:
    """A block of JSON that the page's script reads. No text in it can end the block or begin another one."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{escape(name)}">{text}</script>')
