"""The HTML page of a report: self-contained and offline, with charts."""

from pytest_gpuperf.report.page.pages import history_page, page

__all__ = ["history_page", "page"]
