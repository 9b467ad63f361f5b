"""The HTML page: self-contained, offline, for people who look at curves."""

from pytest_gpuperf.report.page.pages import history_page, page

__all__ = ["history_page", "page"]
