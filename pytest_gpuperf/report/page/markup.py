"""HTML elements whose texts and attributes are always escaped.

Names of tests, branches and devices are untrusted. Only ``Markup`` goes into a page unescaped, and only ``element``,
``joined`` and ``data_block`` create it from data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from pytest_gpuperf.safe_text import visible

_VOID = frozenset({"meta", "input", "wbr"})
#: HTML allows omitting their end tags, and a page has tens of thousands of them.
_UNCLOSED = frozenset({"td", "th", "tr", "li"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """Return an element.

    Args:
        name: Name of the element; must not come from data.
        children: Texts and elements; None is left out.
        attributes: ``class_`` becomes ``class`` and ``data_x`` becomes ``data-x``. True writes the bare name; False and
            None leave the attribute out.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        written.append(f" {attribute}" if value is True else f' {attribute}="{escape(visible(str(value)))}"')
    opening = f"<{name}{''.join(written)}>"
    verdict_counts = "" if name in _VOID or name in _UNCLOSED else f"</{name}>"
    return Markup(opening + joined(children) + verdict_counts)


def joined(children: Iterable[str | None]) -> Markup:
    """Join elements and texts."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(visible(child), quote=False)
            for child in children
            if child is not None
        )
    )


def text_table(titles: Sequence[str], rows: Iterable[Sequence[str]], class_: str = "") -> Markup:
    """Return a table; all columns from the first title on that begins with ``>`` are right-aligned."""
    texts = next((index for index, title in enumerate(titles) if title.startswith(">")), len(titles))
    head = [element("th", title.lstrip(">"), scope="col") for title in titles]
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    return element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_=f"{class_} texts{texts}".strip(),
    )


def data_block(name: str, data: Any) -> Markup:
    """Return a block of JSON for the scripts; no text in it can end the block or begin another."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{escape(name)}">{text}</script>')
