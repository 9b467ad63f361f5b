"""The record that ``gpuperf sweep --store`` keeps."""

from __future__ import annotations

import platform
import socket
import urllib.parse
from dataclasses import replace
from pathlib import Path

from pytest_gpuperf import __version__
from pytest_gpuperf.cli.new_record import judge_and_store, new_key, new_record
from pytest_gpuperf.cli.sweep.settings import RecordSettings, SweepSettings
from pytest_gpuperf.device import find_device
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import METHOD_VERSION, PlainMapping, Run, StartTimes, Window, with_cached_points
from pytest_gpuperf.store import Store, read_checkout, select_baseline

#: Windows of perf_client's kind, one after the other until they agree, are not measured as those of a pytest test are,
#: so their records are never compared with each other.
SWEEP_METHOD = f"gpuperf sweep {METHOD_VERSION}"


class SweepRecord:
    """The windows that make up a sweep's levels, as one run of one test.

    Attributes:
        under_test: Server and model, as the server describes them.

    Raises:
        GpuperfError: The record could not be stored, or not be compared. Raised before anything is measured.
    """

    def __init__(self, settings: SweepSettings, target: RecordSettings) -> None:
        self._settings, self._test = settings, target.test or settings.model
        self._windows: list[Window] = []
        self._level: list[Window] = []
        self.under_test: PlainMapping = {}
        device: PlainMapping = {"device": target.gpu}
        self._environment: PlainMapping = {"python": platform.python_version()}
        if not target.gpu:
            if not target.device:
                _require_local(settings.urls)
            local = find_device(target.device or "auto", option="--device")
            device, self._environment = local.key, {**local.environment, **self._environment}
        self._commit = target.commit
        if not self._commit:
            checkout = read_checkout(Path.cwd())
            self._commit = checkout.commit
            self._environment = {**self._environment, "uncommitted_changes": checkout.dirty}
        self._key = new_key(device, self._test, SWEEP_METHOD)
        self._store = Store(target.store)
        self._store.check_writable()
        select_baseline(self._store, self._key)

    @property
    def label(self) -> str:
        """The test, the device and the store, in a line."""
        return f"{self._test} on {self._key['device']}, into {self._store.describe(self._store.url)}"

    def add(self, window: Window) -> None:
        """Add a window to the level."""
        self._level.append(window)

    def end_level(self, counted: int) -> None:
        """Keep the windows that make up the level's figures.

        Args:
            counted: Number of these windows, which are the newest.
        """
        self._windows += self._level[-counted:]
        self._level.clear()

    def store(self, *, complete: bool) -> None:
        """Compare the record with its baseline, store it, and print the outcome. Nothing happens without a window.

        Raises:
            StoreError: The record can't be stored.
        """
        if not self._windows:
            return
        name = self._settings.model
        windows = with_cached_points([replace(window, sweep=name) for window in self._windows])
        run = Run(name, 0, start=StartTimes(), warmup_s=0.0, warmed_up=True, windows=windows, complete=complete)
        record = new_record(
            self._key,
            [run],
            status="complete" if complete else "incomplete",
            commit=self._commit,
            under_test={name: self.under_test},
            environment=self._environment,
            settings=_settings(self._settings),
        )
        judge_and_store(self._store, record)


def _settings(settings: SweepSettings) -> PlainMapping:
    """Return the settings that may move the figures."""
    return {
        "gpuperf": __version__,
        "runs": 1,
        "window_s": settings.window_s,
        "window_requests": settings.window_requests,
        "request_count": settings.request_count,
        "warmup_requests": settings.warmup_count,
        "stability": settings.tolerance,
        "stable_latency": "mean" if settings.percentile is None else f"p{settings.percentile:g}",
        "workers": settings.workers,
    }


def _require_local(urls: tuple[str, ...]) -> None:
    """Raise ``OptionError`` if a server is on another machine, whose device can't be read here."""
    for url in urls:
        host = urllib.parse.urlsplit(url if "://" in url else f"//{url}").hostname or ""
        if not (host.startswith("127.") or host in ("localhost", "::1", socket.gethostname().lower())):
            raise OptionError(
                f"--store needs the GPU that {host} computes on, for the record's key: name it with --gpu 'NVIDIA L4', "
                "or write --device auto if it is a GPU of this machine."
            )
