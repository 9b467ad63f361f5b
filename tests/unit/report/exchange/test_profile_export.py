from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.load.generator import Recording, Times
from pytest_gpuperf.report.exchange import profile_export
from pytest_gpuperf.report.exchange.profile_export import ProfileExport, requests_of
from tests.unit.report.exchange.recordings import closed_loop, column

EPOCH_NS = 1_700_000_000_000_000_000


def written(path: Path, *levels: tuple[str, float, list[Recording]]) -> Any:
    export = ProfileExport(path, EPOCH_NS)
    for level in levels:
        export.add(*level)
    export.close()
    return json.loads(path.read_text())


def test_the_file_has_perf_analyzers_shape(tmp_path: Path) -> None:
    windows = [closed_loop((10, 20), (30, 45)), closed_loop((2000, 2010), start_ns=2000, stop_ns=3000)]
    document = written(tmp_path / "times.json", ("concurrency", 4, windows))
    assert document == {
        "experiments": [
            {
                "experiment": {"mode": "concurrency", "value": 4},
                "requests": [
                    {"timestamp": EPOCH_NS + 10, "response_timestamps": [EPOCH_NS + 20]},
                    {"timestamp": EPOCH_NS + 30, "response_timestamps": [EPOCH_NS + 45]},
                    {"timestamp": EPOCH_NS + 2000, "response_timestamps": [EPOCH_NS + 2010]},
                ],
                "window_boundaries": [EPOCH_NS, EPOCH_NS + 1000, EPOCH_NS + 2000, EPOCH_NS + 3000],
            }
        ],
        "version": "",
        "service_kind": "triton",
        "endpoint": "",
    }


def test_only_requests_that_were_due_in_a_window_are_exported(tmp_path: Path) -> None:
    window = closed_loop((99, 150), (100, 160), (499, 700), (500, 600), start_ns=100, stop_ns=500)
    document = written(tmp_path / "times.json", ("concurrency", 1, [window]))
    sent = [request["timestamp"] - EPOCH_NS for request in document["experiments"][0]["requests"]]
    assert sent == [100, 499]


def test_open_loop_exports_when_a_request_was_due() -> None:
    lane = Times(column([100]), column([130]), column([180]))
    window = Recording(0, 1000, (lane,), {}, "", 0.0)
    (request,) = map(json.loads, requests_of(window, EPOCH_NS))
    assert request == {
        "timestamp": EPOCH_NS + 130,
        "response_timestamps": [EPOCH_NS + 180],
        "scheduled": EPOCH_NS + 100,
    }


def test_streams_export_first_and_last_answer_and_their_number() -> None:
    sent = column([10, 20])
    lane = Times(sent, sent, column([90, 60]), None, column([30, 60]), column([5, 1]))
    several, one = map(json.loads, requests_of(Recording(0, 1000, (lane,), {}, "", 0.0), 0))
    assert several == {"timestamp": 10, "response_timestamps": [30, 90], "responses": 5}
    assert one == {"timestamp": 20, "response_timestamps": [60]}


def test_requests_of_all_workers_are_exported() -> None:
    @dataclass
    class Window:
        start_ns = 0
        stop_ns = 1000
        lanes: Sequence[Times]

    one, two = closed_loop((1, 2)).lanes[0], closed_loop((3, 4), (5, 6)).lanes[0]
    assert len(list(requests_of(Window((one, two)), 0))) == 3


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_many_requests_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(profile_export, "_PIECE", 3)
    window = closed_loop(*((number, number + 1) for number in range(count)))
    document = written(tmp_path / "times.json", ("request_rate", 50.0, [window]), ("request_rate", 60.0, [window]))
    assert [len(experiment["requests"]) for experiment in document["experiments"]] == [count, count]
    assert [experiment["experiment"]["value"] for experiment in document["experiments"]] == [50.0, 60.0]


def test_the_file_appears_once_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text("the one before")
    export = ProfileExport(path, 0)
    export.add("concurrency", 1, [closed_loop((1, 2))])
    assert path.read_text() == "the one before"
    export.close()
    export.close()
    assert json.loads(path.read_text())["experiments"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_a_level_is_valid(tmp_path: Path) -> None:
    assert written(tmp_path / "times.json")["experiments"] == []


def test_a_level_that_can_not_be_written_is_left_out(tmp_path: Path, file_size_limit: Callable[[int], None]) -> None:
    export = ProfileExport(tmp_path / "times.json", 0)
    export.add("concurrency", 1, [closed_loop((1, 2))])
    file_size_limit(2_000)
    with pytest.raises(OSError, match="large"):
        export.add("concurrency", 2, [closed_loop(*((number, number + 1) for number in range(900)))])
    export.add("concurrency", 3, [closed_loop((1, 2))])
    export.close()
    experiments = json.loads((tmp_path / "times.json").read_text())["experiments"]
    assert [experiment["experiment"]["value"] for experiment in experiments] == [1, 3]
