"""All options in one frozen record. Every mistake is a ``UsageError`` that says what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

Value = TypeVar("Value")

DEFAULT_STORE = ".gpuperf"


@dataclass(frozen=True)
class Settings:
    """What the user asked for.

    Attributes:
        measure: ``--gpuperf`` was given; otherwise a smoke run.
        store: an absolute directory or a URL.
        default_store: ``store`` is where the command line tool looks by itself.
        alpha: chance of any false alarm in the whole invocation.
        min_effect: a worsening up to this share is no regression.
    """

    measure: bool
    store: str
    default_store: bool
    device: str
    runs: int
    alpha: float
    min_effect: float
    fail_on_inconclusive: bool


def read_settings(config: pytest.Config) -> Settings:
    """The settings from the command line, else the ini file, else the defaults.

    Raises:
        pytest.UsageError: a value can't be used.
    """
    store, from_ini = _text(config, "store", DEFAULT_STORE)
    base = config.rootpath if from_ini or store == DEFAULT_STORE else config.invocation_params.dir
    return Settings(
        measure=bool(config.getoption("gpuperf")),
        store=store if "://" in store else str(Path(base, Path(store).expanduser())),
        default_store=store == DEFAULT_STORE,
        device=_text(config, "device", "auto")[0],
        runs=_parse(config, "runs", "3", parse_runs),
        alpha=_parse(config, "alpha", "5%", parse_alpha),
        min_effect=_parse(config, "min_effect", "1%", parse_share),
        fail_on_inconclusive=_parse(config, "on_inconclusive", "warn", parse_on_inconclusive),
    )


def parse_runs(text: str) -> int:
    """A number of runs; ``ValueError`` says what is allowed."""
    try:
        runs = int(text)
    except ValueError:
        runs = 0
    if runs < 2:
        raise ValueError("write a whole number of fresh starts, 2 or more (one start shows no spread), for example 3")
    return runs


def parse_share(text: str) -> float:
    """``2%`` or ``0.02``."""
    share = _number(text)
    if not 0 <= share < 1:
        raise ValueError("write a share of 0 or more and below 1, for example 2% or 0.02")
    return share


def parse_alpha(text: str) -> float:
    """A share that can be an error probability."""
    alpha = _number(text)
    if not 0 < alpha <= 0.5:
        raise ValueError("write the accepted chance of a false alarm, above 0 and up to 50%, for example 5% or 0.05")
    return alpha


def _number(text: str) -> float:
    """A number or a percentage; NaN when it is neither."""
    number = text.strip()
    try:
        return float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        return math.nan


def parse_on_inconclusive(text: str) -> bool:
    """Whether an inconclusive comparison fails the test."""
    if text not in ("warn", "fail"):
        raise ValueError("write warn or fail")
    return text == "fail"


def _parse(config: pytest.Config, name: str, default: str, parse: Callable[[str], Value]) -> Value:
    text, from_ini = _text(config, name, default)
    try:
        return parse(text)
    except ValueError as error:
        where = (
            f"gpuperf_{name} = {text} in {config.inipath}" if from_ini else f"--gpuperf-{name.replace('_', '-')} {text}"
        )
        raise pytest.UsageError(f"{where}: {error}") from error


def _text(config: pytest.Config, name: str, default: str) -> tuple[str, bool]:
    """The option's text, and whether it comes from the ini file."""
    given = config.getoption(f"gpuperf_{name}")
    if given is not None:
        return str(given), False
    ini = str(config.getini(f"gpuperf_{name}") or "").strip()
    return (ini, True) if ini else (default, False)
