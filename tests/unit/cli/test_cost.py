from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.model import LoadPoint, PlainMapping
from pytest_gpuperf.report.cost import usd
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf
from tests.unit.factories import KEY, record, run

ON_T4: PlainMapping = {**KEY, "device": "Tesla T4"}
ON_A10G: PlainMapping = {**KEY, "device": "NVIDIA A10G"}
TABLE = """
[[price]]
instance = "small"
gpu = "NVIDIA T4"
count = 1
usd_per_hour = 0.5
date = 2026-01-31
source = "our contract"
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A T4 and an A10G that is 2.5 times as fast, at 1, 2 and 4 requests in flight: 4, 6 and 10 ms on the T4."""
    store = Store(str(tmp_path / "store"))
    for key, name, factor in ((ON_T4, "74aa", 1.0), (ON_A10G, "a10a", 0.4)):
        levels = [[factor * level * chance for level in (4.0, 6.0, 10.0)] for chance in (1.0, 1.02, 0.98)]
        store.write(record(levels, key=key, name=name, requests=100))
    return store


@pytest.fixture
def prices(tmp_path: Path) -> str:
    path = tmp_path / "prices.toml"
    path.write_text(TABLE)
    return str(path)


def document(store: Store, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert gpuperf(store, "cost", *arguments, "--format", "json") == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_dollars_per_million_at_each_point(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "cost") == 0
    text = capsys.readouterr().out
    assert re.search(r"Tesla T4, g4dn.xlarge at \$0.526/hour\n", text)
    assert re.search(r"serving: concurrency 1 +250\.\d +4\.00 ms +4\.56 ms +\$0\.584  knee\n", text)
    assert re.search(r"serving: concurrency 4 +400\.\d +9\.99 ms +11\.\d\d ms +\$0\.365\n", text)
    assert text.count("knee") == 2
    assert "price: g4dn.xlarge (NVIDIA T4): $0.526/hour on 2025-11-30, instances.vantage.sh" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_fleet_within_a_budget(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """At concurrency 2 the slowest run of the T4 serves 326.8/s, and its p90 is 7 ms: four of them take 1170/s.

    Two A10G do so at every load point, so they are told at the one of the lowest latency.
    """
    assert gpuperf(store, "cost", "--qps", "900", "--p90", "8ms", "--headroom", "30%") == 0
    text = capsys.readouterr().out
    assert "900 requests/s of 1 inference each, within p90 8.00 ms, 30% headroom" in text
    assert re.search(r"4 x g4dn.xlarge +Tesla T4 +serving: concurrency 2 +6\.9\d ms +\+45% +\$1,536 ", text)
    assert re.search(r"2 x g5.xlarge +NVIDIA A10G +serving: concurrency 1 +1\.\d+ ms +\+36% +\$1,469 ", text)
    assert text.index("2 x g5.xlarge") < text.index("4 x g4dn.xlarge")
    assert re.search(r"NVIDIA A10G: record a10a of 2026-01-01 00:00 UTC, commit 12345678\n", text)
    assert re.search(
        r"Tesla T4: serving: concurrency 2: 3 runs, 326\.\d to 340\.\d inf/s, p90 6\.\d\d ms to 6\.9", text
    )
    for told in ("a month has 730 hours", "assumed: requests are spread evenly", "closed loop: the load point kept"):
        assert told in text


def test_nothing_serves_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "cost", "--qps", "9", "--p90", "1ms") == 1
    text = capsys.readouterr().out
    assert "no measured and priced load point serves 9 requests/s of 1 inference each, within p90 1.00 ms" in text
    assert re.search(r"Tesla T4: no load point keeps the budget; the closest is concurrency 1 with p90 4.6\d+ ms", text)
    assert "$/month" not in text
    assert gpuperf(store, "cost", "--qps", "9", "--batch-size", "8") == 1
    assert "Tesla T4: nothing was measured at batch size 8, only at 1" in capsys.readouterr().out


def test_a_price_table_replaces_the_packages_own(store: Store, prices: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(store, capsys, "--qps", "100", "--prices", prices)
    t4, a10g = (next(one for one in found["tests"] if one["device"] == name) for name in ("Tesla T4", "NVIDIA A10G"))
    assert t4["price"]["source"] == "our contract"
    assert t4["offers"][0]["fleet"]["usd_per_month"] == pytest.approx(0.5 * 730)
    assert a10g["price"] is None
    assert a10g["offers"][0]["refusal"] == "no price of NVIDIA A10G"
    assert gpuperf(store, "cost", "--prices", prices) == 0
    assert "NVIDIA A10G: no price is known; write a price table" in capsys.readouterr().out


def test_prices_of_a_day(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(store, capsys, "--qps", "100", "--as-of", "2022-12-31")
    assert {offer["price"]["instance"] for one in found["tests"] for offer in one["offers"]} == {
        "g5.4xlarge",
        "g4dn.4xlarge",
    }
    assert gpuperf(store, "cost", "--list-prices") == 0
    text = capsys.readouterr().out
    assert text.index("g5.4xlarge") < text.index("g4dn.4xlarge") < text.index("g4dn.xlarge")
    assert "2022-10-03  AWS Machine Learning Blog" in text
    assert gpuperf(store, "cost", "--list-prices", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["date"] == "2022-10-03"


def test_inferences_in_any_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    points = [LoadPoint(1, 1), LoadPoint(1, 8)]
    store.write(record([[2.0, 4.0]] * 3, at=points, key=ON_T4))
    found = document(store, capsys, "--ips", "1500")
    assert found["tests"][0]["offers"][0]["fleet"]["at"]["point"]["batch_size"] == 8
    assert found["tests"][0]["offers"][0]["fleet"]["instances"] == 1
    assert document(store, capsys, "--qps", "250", "--batch-size", "8")["demand"]["inferences_per_s"] == 2000
    assert gpuperf(store, "cost", "--ips", "1500") == 0
    text = capsys.readouterr().out
    assert "1500 inferences/s in requests of any batch size" in text
    assert "these latencies do not include the time to collect requests into batches" in text
    assert gpuperf(store, "cost", "--qps", "250", "--batch-size", "8") == 0
    assert "250 requests/s of 8 inferences each" in capsys.readouterr().out


def test_open_loop_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    points = [LoadPoint(4), LoadPoint(0, 1, 100.0, "poisson")]
    store.write(record([[2.0, 4.0]] * 3, at=points, key=ON_T4))
    assert gpuperf(store, "cost", "--qps", "400") == 0
    text = capsys.readouterr().out
    assert "4 x g4dn.xlarge" in text
    assert "closed loop" not in text
    assert gpuperf(store, "cost", "--qps", "400", "--loop", "closed") == 0
    text = capsys.readouterr().out
    assert "1 x g4dn.xlarge" in text
    assert "closed loop" in text


def test_more_records_are_more_runs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(record([[5.0, 7.0, 12.0]] * 3, key=ON_T4, name="5107", minute=5))
    store.write(record([[9.0, 9.0, 19.0]] * 3, key=ON_T4, name="c070", minute=6, status="incomplete", gate="open"))
    store.write(replace(record([[9.0]] * 3, key=ON_T4, name="d0e7", minute=7), reference=(run(),)))
    assert gpuperf(store, "cost", "--qps", "100", "--records", "2") == 0
    text = capsys.readouterr().out
    assert [line.split()[3] for line in text.splitlines() if "Tesla T4: record" in line] == ["5107", "74aa"]
    assert "6 runs" in text
    found = document(store, capsys)
    assert [each["id"] for one in found["tests"] for each in one["records"]] == ["a10a", "5107"]


def test_the_curve(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "cost", "--qps", "1000", "--curve") == 0
    text = capsys.readouterr().out
    curve = text[text.index("price against latency") :]
    fleets = re.findall(r"(\d) x g4dn.xlarge +Tesla T4 .*? ([\d.]+) ms +([\d.]+) ms +\$([\d,]+)\n", curve)
    assert [int(one[0]) for one in fleets] == [3, 4, 5]
    assert sorted((float(one[2]) for one in fleets), reverse=True) == [float(one[2]) for one in fleets]


def test_the_curve_has_the_quantile_of_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    store.write(record([[4.0, 6.0, 10.0]] * 3, key=ON_T4, requests=2000))
    assert gpuperf(store, "cost", "--qps", "1000", "--p99", "500ms", "--curve") == 0
    text = capsys.readouterr().out
    curve = text[text.index("price against latency") :]
    assert re.search(r"p50 +p90 +p99 +\$/month\n", curve)
    p99s = re.findall(r"\d x g4dn.xlarge +Tesla T4 .*? ([\d.]+) ms +\$[\d,]+\n", curve)
    assert len(p99s) > 1
    assert sorted(map(float, p99s), reverse=True) == list(map(float, p99s))


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (12_345.6, "$12,346"),
        (99.96, "$100"),
        (12.345, "$12.3"),
        (1.5, "$1.50"),
        (0.9996, "$1.00"),
        (0.584, "$0.584"),
        (0.0074, "$0.00740"),
        (0.0066, "$0.00660"),
        (0.00028, "$0.000280"),
        (1.2345e-7, "$0.000000123"),
    ],
)
def test_dollars_have_three_significant_digits(amount: float, shown: str) -> None:
    assert usd(amount) == shown


def test_markdown_keeps_names_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    store.write(record([[2.0]] * 3, key={**ON_T4, "test": "t.py::test[`<b>|@me]"}))
    assert gpuperf(store, "cost", "--qps", "100", "--format", "markdown") == 0
    text = capsys.readouterr().out
    title, _, rest = text.partition("\n\n")
    assert not [part for part in ("<b>", "|", "@me", "`") if part in title]
    assert html.unescape(title.replace("<wbr>", "")) == "### <code>t.py::test[`<b>|@me]</code>"
    assert rest.startswith("**`100 requests/s of 1 inference each")
    assert "| 1 x g4dn.xlarge | Tesla T4 | serving: concurrency 1 |" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--qps", "0"], "'0': write a number above 0"),
        (["--qps", "nan"], "'nan': write a number above 0"),
        (["--qps", "9", "--p90", "200"], "'200': write a time with its unit (us, ms, s), for example 200ms"),
        (["--qps", "9", "--p90", "0ms"], "'0ms': write a time"),
        (["--qps", "9", "--headroom=-5%"], "'-5%': write a share of 0 or more"),
        (["--qps", "9", "--headroom", "lots"], "'lots': write a share of 0 or more, for example 30% or 0.3"),
        (["--qps", "9", "--batch-size", "1.5"], "'1.5': write a whole number"),
        (["--qps", "9", "--as-of", "soon"], "'soon': write a day"),
        (["--qps", "9", "--ips", "9"], "not allowed with argument"),
    ],
)
def test_options_that_can_t_be_used(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit):
        gpuperf(store, "cost", *arguments)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--p90", "20ms"], "write how much with --qps N (or --ips N)"),
        (["--ips", "9", "--batch-size", "8"], "use --qps with --batch-size"),
        (["--test", "absent"], "There is no complete record in"),
        (["--prices", "absent.toml"], "The price table absent.toml can't be read"),
    ],
)
def test_options_that_don_t_go_together(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert gpuperf(store, "cost", *arguments) == 1
    assert says in capsys.readouterr().err
