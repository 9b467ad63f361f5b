"""The ``gpuperf`` marker: how one test is measured and gated."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import METRIC_NAMES, metric_of

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Marker:
    """The arguments of ``@pytest.mark.gpuperf(...)``; None for an argument that is not given.

    Attributes:
        min_effect: Replaces ``--gpuperf-min-effect``.
        version: Version of the test, a part of its comparison key: raising it begins a new baseline.
        runs: Replaces ``--gpuperf-runs``.
        metrics: Metrics that gate, instead of p50, p90, throughput and energy.
        benchmark: Whether what the test measures with pytest-benchmark is recorded and gated.
        name: Name of the test in records, which stays when the test is renamed or moved (``ids.test_id`` reads it).
    """

    min_effect: float | None = None
    version: int = 1
    runs: int | None = None
    metrics: frozenset[str] | None = None
    benchmark: bool = True
    name: str | None = None


def uses_gpuperf(item: pytest.Item) -> bool:
    """Return whether a test uses the ``gpuperf`` fixture."""
    return "gpuperf" in getattr(item, "fixturenames", ())


def is_gated(item: pytest.Item) -> bool:
    """Return whether a test is measured: with the ``gpuperf`` fixture, or with pytest-benchmark's."""
    return uses_gpuperf(item) or (is_gated_benchmark(item) and "benchmark" in getattr(item, "fixturenames", ()))


def is_gated_benchmark(item: pytest.Item) -> bool:
    """Return whether the rounds of pytest-benchmark's fixture are gated, if a test uses it."""
    if not item.config.pluginmanager.has_plugin("pytest-benchmark") or not item.config.getoption("gpuperf"):
        return False
    stated = (mark.kwargs["benchmark"] for mark in item.iter_markers("gpuperf") if "benchmark" in mark.kwargs)
    return next(stated, True) is not False


def marker_of(item: pytest.Item) -> Marker:
    """Return the arguments of a test's markers; for each argument, the closest marker wins.

    Raises:
        OptionError: An argument is unknown or can't be used.
    """
    arguments: dict[str, object] = {}
    known = [field.name for field in fields(Marker)]
    for mark in reversed(list(item.iter_markers("gpuperf"))):
        if mark.args:
            raise OptionError(f"@pytest.mark.gpuperf takes keywords only: {', '.join(known)}.")
        arguments.update(mark.kwargs)
    for name in arguments:
        if name not in known:
            raise OptionError(f"@pytest.mark.gpuperf has no argument {name!r}; it has {', '.join(known)}.")
    min_effect, version, runs = arguments.get("min_effect"), arguments.get("version", 1), arguments.get("runs")
    if min_effect is not None and not (isinstance(min_effect, float | int) and 0 <= min_effect < 1):
        raise OptionError(f"@pytest.mark.gpuperf(min_effect={min_effect!r}): write a share, for example 0.02 for 2%.")
    if isinstance(version, bool) or not isinstance(version, int):
        raise OptionError(f"@pytest.mark.gpuperf(version={version!r}): write a whole number, for example 2.")
    if runs is not None and (isinstance(runs, bool) or not isinstance(runs, int) or runs < 2):
        raise OptionError(f"@pytest.mark.gpuperf(runs={runs!r}): write a whole number of 2 or more, for example 5.")
    benchmark = arguments.get("benchmark", True)
    if not isinstance(benchmark, bool):
        raise OptionError(f"@pytest.mark.gpuperf(benchmark={benchmark!r}): write True or False.")
    stated_name = _name(arguments.get("name"))
    metrics = _metrics(arguments.get("metrics"))
    return Marker(None if min_effect is None else float(min_effect), version, runs, metrics, benchmark, stated_name)


def _name(given: object) -> str | None:
    """Return the name of the test that a marker states.

    Raises:
        OptionError: It is not a text in one line, or too long.
    """
    if given is None:
        return None
    if not isinstance(given, str) or not given.strip() or not given.isprintable() or len(given) > _LONGEST_NAME:
        raise OptionError(
            f"@pytest.mark.gpuperf(name={given!r}): write a name in one line of at most {_LONGEST_NAME} letters, for "
            "example 'resnet50 serving'."
        )
    return given.strip()


def _metrics(given: object) -> frozenset[str] | None:
    """Return the metrics that a marker names, in a collection or alone.

    Raises:
        OptionError: A name is no metric, or there is no name.
    """
    if given is None:
        return None
    names = (
        [given] if isinstance(given, str) else list(given) if isinstance(given, list | tuple | set | frozenset) else []
    )
    if not names or not all(isinstance(name, str) and metric_of(name) for name in names):
        raise OptionError(
            f"@pytest.mark.gpuperf(metrics={given!r}): write one or more of {', '.join(METRIC_NAMES)}, "
            "for example ['p50', 'p99']."
        )
    return frozenset(map(str, names))
