from __future__ import annotations

import pytest

from pytest_gpuperf.session.settings import Settings, parse_flag, read_settings
from pytest_gpuperf.store import BaselineSpec


def settings(pytester: pytest.Pytester, *arguments: str, ini: str = "") -> Settings:
    if ini:
        pytester.makeini(f"[pytest]\n{ini}")
    return read_settings(pytester.parseconfig(*arguments))


def test_the_defaults(pytester: pytest.Pytester) -> None:
    found = settings(pytester)
    assert (found.runs, found.max_runs, found.baseline, found.key) == (3, 3, BaselineSpec(), ())
    assert not found.require_baseline
    assert not found.measure


def test_who_asks_for_runs_gets_as_many(pytester: pytest.Pytester) -> None:
    assert settings(pytester, "--gpuperf-runs=5").max_runs == 5
    assert settings(pytester, "--gpuperf-runs=12").max_runs == 12
    assert settings(pytester, "--gpuperf-runs=2", "--gpuperf-max-runs=6").max_runs == 6
    assert settings(pytester, "--gpuperf-max-runs=3").max_runs == 3
    assert settings(pytester, ini="gpuperf_runs = 4").max_runs == 4
    assert settings(pytester, ini="gpuperf_max_runs = 5").max_runs == 5


def test_keys_may_be_repeated_and_stand_in_the_ini_file(pytester: pytest.Pytester) -> None:
    found = settings(pytester, "--gpuperf-key=+driver", "--gpuperf-key=-power_limit_w")
    assert [change.text for change in found.key] == ["+driver", "-power_limit_w"]
    found = settings(pytester, "--gpuperf-key", "+driver", ini="gpuperf_key = +host")
    assert [change.text for change in found.key] == ["+driver"]
    assert [change.text for change in settings(pytester).key] == ["+host"]


def test_the_tritonserver(pytester: pytest.Pytester) -> None:
    assert settings(pytester).triton is None
    assert settings(pytester, ini="gpuperf_triton = bundled").triton == "bundled"
    assert settings(pytester, "--gpuperf-triton=docker:mine:1").triton == "docker:mine:1"


def test_what_to_compare_with(pytester: pytest.Pytester) -> None:
    assert settings(pytester, "--gpuperf-baseline=pinned").baseline == BaselineSpec("pinned")
    assert settings(pytester, ini="gpuperf_baseline = commit:1234567").baseline == BaselineSpec("commit", "1234567")


def test_a_switch_in_both_places(pytester: pytest.Pytester) -> None:
    assert settings(pytester, "--gpuperf-require-baseline").require_baseline
    assert settings(pytester, ini="gpuperf_require_baseline = True").require_baseline
    assert not settings(pytester, ini="gpuperf_require_baseline = false").require_baseline
    with pytest.raises(ValueError, match="write true or false"):
        parse_flag("yes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpuperf-max-runs=1"], r"--gpuperf-max-runs 1: write a whole number of fresh starts, 2 or more"),
        (["--gpuperf-runs=5", "--gpuperf-max-runs=3"], r"--gpuperf-max-runs 3: write 5 or more"),
        (["--gpuperf-baseline=newest"], r"--gpuperf-baseline newest: write both, rolling, pinned"),
        (["--gpuperf-key=driver"], r"--gpuperf-key driver: 'driver': expected \+FIELD or -FIELD"),
    ],
)
def test_mistakes_say_what_to_write(pytester: pytest.Pytester, arguments: list[str], message: str) -> None:
    with pytest.raises(pytest.UsageError, match=message):
        settings(pytester, *arguments)


def test_mistakes_in_the_ini_file_name_it(pytester: pytest.Pytester) -> None:
    with pytest.raises(pytest.UsageError, match=r"gpuperf_require_baseline = 1 in .*tox.ini: write true or false"):
        settings(pytester, ini="gpuperf_require_baseline = 1")


PRICES = """
[[price]]
instance = "mine"
gpu = "NVIDIA L4"
count = 1
usd_per_hour = 0.5
date = 2026-01-31
source = "our contract"
"""


def test_prices_are_the_package_s_or_one_s_own(pytester: pytest.Pytester) -> None:
    assert "g6.xlarge" in {price.instance for price in settings(pytester).prices}
    pytester.path.joinpath("mine.toml").write_text(PRICES)
    assert [price.instance for price in settings(pytester, "--gpuperf-prices=mine.toml").prices] == ["mine"]
    assert [price.instance for price in settings(pytester, ini="gpuperf_prices = mine.toml").prices] == ["mine"]
    with pytest.raises(pytest.UsageError, match=r"--gpuperf-prices no\.toml: The price table .*no\.toml can't be read"):
        settings(pytester, "--gpuperf-prices=no.toml")
    with pytest.raises(pytest.UsageError, match=r"gpuperf_prices = no\.toml in .*tox\.ini: The price table"):
        settings(pytester, ini="gpuperf_prices = no.toml")
