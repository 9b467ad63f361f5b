"""The HTML document: a self-contained file that runs only its own scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from pytest_gpuperf.report.page.chart import Chart, SharedData
from pytest_gpuperf.report.page.markup import Markup, data_block, element


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def document(title: str, head: Sequence[str | None], body: Sequence[str | None], charts: Sequence[Chart]) -> str:
    """Return the HTML document.

    Args:
        head: Elements at the top, beside the theme button.
        charts: Charts that elements in ``body`` refer to by number.
    """
    styles = [_asset(name) for name in ("uPlot.min.css", "page.css")]
    scripts = [_asset(f"{name}.js") for name in ("theme", "uPlot.iife.min", "chart_data", "chart", "page")]
    # Even if a name were injected as an element, the browser would run only these scripts.
    sources = f"script-src {' '.join(map(_source, scripts))}; style-src {' '.join(map(_source, styles))}"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    pool = SharedData()
    packed = [chart.as_json(pool) for chart in charts]
    theme = element("button", "Theme: system", type="button", id="theme", class_="quiet", aria_live="polite")
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name_="generator", content="pytest-gpuperf"),
            element("title", title),
            *(element("style", Markup(style)) for style in styles),
            element("script", Markup(scripts[0])),
        ),
        element(
            "body",
            element("header", element("div", *head), theme),
            element("main", *body),
            element("noscript", element("p", "The charts need JavaScript; all numbers are in the tables.")),
            data_block("chart-data", {"pool": pool.items, "charts": packed}),
            *(element("script", Markup(script)) for script in scripts[1:]),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
