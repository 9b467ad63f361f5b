"""All options in one frozen data class. Every mistake is a ``UsageError`` that says what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from pytest_gpuperf.analysis.cost.prices import newest_prices
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Price
from pytest_gpuperf.publish.formats import format_of
from pytest_gpuperf.session.key_changes import KeyChange, parse_key_changes
from pytest_gpuperf.store import BaselineSpec
from pytest_gpuperf.store.prices import read_prices
from pytest_gpuperf.store.project.location import default_store, expanded, option_for
from pytest_gpuperf.store.project.merge_base import AUTO
from pytest_gpuperf.user_path import user_path

Value = TypeVar("Value")


@dataclass(frozen=True)
class ClockWish:
    """The clocks that the user wants locked.

    Attributes:
        mhz: Frequency; None for the highest that the power limit allows.
    """

    mhz: int | None = None


@dataclass(frozen=True)
class Settings:
    """The user's options.

    Attributes:
        measure: Whether ``--gpuperf`` was given; otherwise it is a smoke run.
        store: Absolute directory or URL of the store.
        store_option: Option with which the ``gpuperf`` command uses the store; empty if it does without.
        alpha: Chance of any false alarm in the invocation.
        min_effect: Share up to which a worsening is accepted.
        max_runs: Fresh starts that an undecided test may take; ``runs`` or more.
        baseline: Records to compare with.
        merge_base: Branch, tag or commit that the change will be merged into; ``auto`` or ``none``.
        merge_base_option: The option that names it, for messages.
        key: Fields added to the comparison key or removed from it.
        require_baseline: Whether a test with nothing to compare with fails.
        anchor: Whether the anchor is measured with every sweep.
        prices: Newest price of each instance.
        lock_clocks: Clocks to lock; None to leave the GPU's clocks alone.
        triton: tritonserver to start; the first that is found when None.
        reports: Absolute paths of the files to write at the end.
    """

    measure: bool
    store: str
    store_option: str
    device: str
    runs: int
    alpha: float
    min_effect: float
    fail_on_inconclusive: bool
    max_runs: int
    baseline: BaselineSpec
    key: tuple[KeyChange, ...]
    require_baseline: bool
    anchor: bool
    prices: tuple[Price, ...] = ()
    lock_clocks: ClockWish | None = None
    triton: str | None = None
    reports: tuple[str, ...] = ()
    merge_base: str = AUTO
    merge_base_option: str = ""


def read_settings(config: pytest.Config, root_path: Path | None = None) -> Settings:
    """Return the settings from the command line, else the ini file, else the defaults.

    Args:
        root_path: pytest's root directory without the values of our options.

    Raises:
        pytest.UsageError: A value can't be used.
    """
    store, store_option = _store(config, root_path or config.rootpath)
    runs = _parse(config, "runs", "3", parse_runs)
    merge_base, from_ini = _text(config, "merge_base", AUTO)
    return Settings(
        measure=bool(config.getoption("gpuperf")),
        store=store,
        store_option=store_option,
        device=_text(config, "device", "auto")[0],
        runs=runs,
        alpha=_parse(config, "alpha", "5%", parse_alpha),
        min_effect=_parse(config, "min_effect", "1%", parse_share),
        fail_on_inconclusive=_parse(config, "on_inconclusive", "warn", parse_on_inconclusive),
        max_runs=_max_runs(config, runs),
        baseline=_parse(config, "baseline", "both", BaselineSpec.parse),
        key=_parse(config, "key", "", parse_key_changes),
        require_baseline=_parse(config, "require_baseline", "false", parse_flag),
        anchor=_parse(config, "anchor", "false", parse_flag),
        prices=_prices(config),
        lock_clocks=_parse(config, "lock_clocks", "", parse_clocks),
        triton=_text(config, "triton", "")[0] or None,
        reports=_reports(config),
        merge_base=merge_base,
        merge_base_option=f"gpuperf_merge_base = {merge_base} in {config.inipath}"
        if from_ini
        else f"--gpuperf-merge-base {merge_base}",
    )


def _store(config: pytest.Config, root_path: Path) -> tuple[str, str]:
    """Return the URL or absolute directory of the store, and the commands' option for it."""
    start, (text, from_ini) = config.invocation_params.dir, _text(config, "store", "")
    try:
        base = config.rootpath if from_ini else start
        store = expanded(text, base.resolve()) if text else str(default_store(start, root_path))
        return store, option_for(store, start)
    except OptionError as error:
        raise pytest.UsageError(f"--gpuperf-store {error}") from error


def _prices(config: pytest.Config) -> tuple[Price, ...]:
    text, from_ini = _text(config, "prices", "")
    base = config.rootpath if from_ini else config.invocation_params.dir
    try:
        return newest_prices(read_prices(Path(base, user_path(text)) if text else ""))
    except OptionError as error:
        where = f"gpuperf_prices = {text} in {config.inipath}" if from_ini else f"--gpuperf-prices {text}"
        raise pytest.UsageError(f"{where}: {error}") from error


def _reports(config: pytest.Config) -> tuple[str, ...]:
    """Return the reports' paths, relative to pytest's start directory, or to its root directory from the ini file."""
    given = config.getoption("gpuperf_report")
    ini = str(config.getini("gpuperf_report") or "").split()
    base = config.rootpath if given is None else config.invocation_params.dir
    paths = []
    for text in ini if given is None else given:
        where = f"gpuperf_report = {text} in {config.inipath}" if given is None else f"--gpuperf-report {text}"
        try:
            format_of(text)
            path = Path(base, user_path(text))
        except (ValueError, OptionError) as error:
            raise pytest.UsageError(f"{where}: {error}") from error
        # Better now than after the measurement.
        if path.is_dir() or (path.parent.exists() and not path.parent.is_dir()):
            raise pytest.UsageError(f"{where}: {path} is a directory, or its parent is not one")
        paths.append(str(path))
    return tuple(dict.fromkeys(paths))


def _max_runs(config: pytest.Config, runs: int) -> int:
    """Return ``runs``, unless the user asks for more.

    A test is undecided mostly because records differ, and more runs of the same record don't show how much.
    """

    def parse(text: str) -> int:
        max_runs = parse_runs(text)
        if max_runs < runs:
            raise ValueError(f"write {runs} or more, since --gpuperf-runs is {runs}")
        return max_runs

    return _parse(config, "max_runs", str(runs), parse)


def parse_runs(text: str) -> int:
    """Parse a number of runs; ``ValueError`` says what is allowed."""
    try:
        runs = int(text)
    except ValueError:
        runs = 0
    if runs < 2:
        raise ValueError("write a whole number of fresh starts, 2 or more (one start shows no spread), for example 3")
    return runs


def parse_share(text: str) -> float:
    """Parse ``2%`` or ``0.02``."""
    share = _number(text)
    if not 0 <= share < 1:
        raise ValueError("write a share of 0 or more and below 1, for example 2% or 0.02")
    return share


def parse_alpha(text: str) -> float:
    """Parse a share that can be an error probability."""
    alpha = _number(text)
    if not 0 < alpha <= 0.5:
        raise ValueError("write the accepted chance of a false alarm, above 0 and up to 50%, for example 5% or 0.05")
    return alpha


def _number(text: str) -> float:
    """Parse a number or a percentage; return NaN for anything else."""
    number = text.strip()
    try:
        return float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        return math.nan


def parse_on_inconclusive(text: str) -> bool:
    """Return whether an inconclusive comparison fails the test."""
    if text not in ("warn", "fail"):
        raise ValueError("write warn or fail")
    return text == "fail"


def parse_clocks(text: str) -> ClockWish | None:
    """Parse a number of MHz, ``tdp``, or nothing."""
    if text in ("", "tdp"):
        return ClockWish() if text else None
    if not text.isdecimal() or not 0 < int(text) < 10_000:
        raise ValueError(
            "write MHz, for example --gpuperf-lock-clocks=1410, or no value for what the power limit allows"
        )
    return ClockWish(int(text))


def parse_flag(text: str) -> bool:
    """Parse ``true`` or ``false``."""
    if text.lower() not in ("true", "false"):
        raise ValueError("write true or false")
    return text.lower() == "true"


def _parse(config: pytest.Config, name: str, default: str, parse: Callable[[str], Value]) -> Value:
    text, from_ini = _text(config, name, default)
    try:
        return parse(text)
    except ValueError as error:
        option = f"--gpuperf-{name.replace('_', '-')}"
        where = f"gpuperf_{name} = {text} in {config.inipath}" if from_ini else f"{option} {text}"
        raise pytest.UsageError(f"{where}: {error}") from error


def _text(config: pytest.Config, name: str, default: str) -> tuple[str, bool]:
    """Return an option's text (of all its values, if it was repeated), and whether it comes from the ini file."""
    given = config.getoption(f"gpuperf_{name}")
    if given is not None:
        return " ".join(given) if isinstance(given, list) else str(given), False
    ini = str(config.getini(f"gpuperf_{name}") or "").strip()
    return (ini, True) if ini else (default, False)
