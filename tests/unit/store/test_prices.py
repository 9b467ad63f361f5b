from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Price
from pytest_gpuperf.store.prices import read_prices

ROW = {
    "instance": '"g6.xlarge"',
    "gpu": '"NVIDIA L4"',
    "count": "1",
    "usd_per_hour": "0.8048",
    "date": "2026-01-31",
    "source": '"our contract"',
}


def table(path: Path, **changes: str | None) -> Path:
    row = {name: value for name, value in {**ROW, **changes}.items() if value is not None}
    return raw(path, "[[price]]\n" + "\n".join(f"{name} = {value}" for name, value in row.items()))


def raw(path: Path, content: str | bytes) -> Path:
    file = path / "prices.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_the_package_s_own_table() -> None:
    prices = read_prices()
    assert [price.instance for price in prices[:2]] == ["g5.4xlarge", "g4dn.4xlarge"]
    assert {price.date for price in prices[:2]} == {"2022-10-03"}
    assert {price.gpu for price in prices} == {"NVIDIA A10G", "NVIDIA T4", "NVIDIA L4"}
    assert all("us-east-1" in price.source for price in prices)


def test_a_row(tmp_path: Path) -> None:
    expected = Price("g6.xlarge", "NVIDIA L4", 1, 0.8048, "2026-01-31", "our contract")
    assert read_prices(table(tmp_path)) == (expected,)
    assert read_prices(table(tmp_path, date='"2026-01-31"')) == (expected,)
    assert read_prices(table(tmp_path, date="2026-01-31T10:00:00Z")) == (expected,)
    assert read_prices(table(tmp_path, usd_per_hour="2"))[0].usd_per_hour == 2.0
    assert read_prices(table(tmp_path, mig_profile='"1g.5gb"', count="7"))[0].mig_profile == "1g.5gb"
    assert read_prices(table(tmp_path, gpu='"CPU Some Model"', cores="8"))[0].cores == 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"count": None}, r"price 1 \(g6.xlarge\): count is missing; write for example count = 1"),
        ({"instance": None}, "price 1: instance is missing"),
        ({"count": "0"}, "count = 0 can't be used; write for example count = 1"),
        ({"count": "true"}, "count = True can't be used"),
        ({"count": "1.5"}, "count = 1.5 can't be used"),
        ({"count": "1" + "0" * 400}, "count = 10+... can't be used"),
        ({"usd_per_hour": '"0.80"'}, "usd_per_hour = '0.80' can't be used; write for example usd_per_hour = 1.006"),
        ({"usd_per_hour": "-1"}, "usd_per_hour = -1 can't"),
        ({"usd_per_hour": "nan"}, "usd_per_hour = nan can't"),
        ({"usd_per_hour": "inf"}, "usd_per_hour = inf can't"),
        ({"usd_per_hour": "1e-300"}, "usd_per_hour = 1e-300 can't"),
        ({"date": '"last week"'}, "date = 'last week' can't be used; write for example date = 2026-01-31"),
        ({"date": '"2026-02-30"'}, "date = '2026-02-30' can't"),
        ({"date": "20260131"}, "date = 20260131 can't"),
        ({"gpu": '"  "'}, "gpu = '  ' can't"),
        ({"instance": '"a\\nb"'}, "instance = 'a.nb' can't"),
        ({"gpu": "['NVIDIA L4']"}, "gpu = .'NVIDIA L4'. can't"),
        ({"usd_per_houre": "1"}, "usd_per_houre is unknown; known are instance, gpu"),
        ({"gpu": '"CPU Some Model"'}, "needs the instance's number of cores; write cores = 16"),
    ],
)
def test_mistakes_in_a_row(tmp_path: Path, changes: dict[str, str | None], says: str) -> None:
    path = table(tmp_path, **changes)
    with pytest.raises(OptionError, match=says) as error:
        read_prices(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"has no \[\[price\]\]"),
        (b"price = 3", r"has no \[\[price\]\]"),
        (b"price = [3]", r"has no \[\[price\]\]"),
        (b"[price]\ncount = 1", r"has no \[\[price\]\]"),
        (b"[[prices]]\ncount = 1", r"has prices. Write one table \[\[price\]\] for each price, with instance, gpu"),
        (b"[[price]", "is not TOML in UTF-8: .*Correct it"),
        (b"\xff\xfe\x00", "is not TOML in UTF-8"),
        (b"a = " + b"[" * 5000, "is not TOML in UTF-8"),
        (b"a = 1" + b"0" * 5000, "is not TOML in UTF-8|has a"),
        (b"#" * (1 << 21), "is larger than 1 MiB"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, says: str) -> None:
    path = raw(tmp_path, content)
    with pytest.raises(OptionError, match=says):
        read_prices(path)


def test_files_that_aren_t_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"absent.toml can't be read: No such file or directory. Name an existing"):
        read_prices(tmp_path / "absent.toml")
    with pytest.raises(OptionError, match="can't be read: Is a directory"):
        read_prices(tmp_path)


def test_one_price_of_an_instance_on_a_day(tmp_path: Path) -> None:
    content = table(tmp_path).read_text()
    with pytest.raises(OptionError, match=r"prices 1 and 2 are both for g6.xlarge on 2026-01-31"):
        read_prices(raw(tmp_path, content + "\n" + content))
    assert len(read_prices(raw(tmp_path, content + "\n" + content.replace("2026-01-31", "2025-01-31")))) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(st.sampled_from([*ROW, "cores", "x"]), st.sampled_from(["1", "0.5", "[]", "{}", '""', "true"])))
def test_any_table_gives_prices_or_says_what_is_wrong(tmp_path: Path, changes: dict[str, str]) -> None:
    path = table(tmp_path, **changes)
    said = ""
    try:
        assert read_prices(path)
    except OptionError as error:
        said = str(error)
    assert not said or said.startswith(str(path))
