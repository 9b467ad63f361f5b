"""Markdown as GitHub renders it: through cmark-gfm, its own parser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import cmarkgfm
from cmarkgfm.cmark import Options


@dataclass
class Page(HTMLParser):
    """What a browser gets, before GitHub's sanitiser.

    Attributes:
        tags: every element in it, with its attributes.
        prose: text outside of code, in which GitHub looks for ``@names`` and ``#numbers``.
        rows: the cells of all tables.
        balanced: every element ends where it should.
    """

    text: str = ""
    prose: str = ""
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    balanced: bool = True
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "wbr":
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.balanced = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if not {"code", "pre"} & set(self._open):
            self.prose += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    @property
    def names(self) -> set[str]:
        """Of the elements."""
        return {name for name, _ in self.tags}


def rendered(markdown: str) -> Page:
    """The page that the Markdown becomes, raw HTML included."""
    page = Page()
    page.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE))
    page.close()
    page.balanced &= not page._open
    return page
