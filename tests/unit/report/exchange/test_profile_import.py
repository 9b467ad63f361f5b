from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.report.exchange.profile_export import ProfileExport
from pytest_gpuperf.report.exchange.profile_import import ProfileLevel, read_profile
from tests.unit.report.exchange.recordings import closed_loop, column


def experiment(
    requests: list[dict[str, Any]], boundaries: list[int] | None = None, mode: str = "concurrency", value: float = 4
) -> dict[str, Any]:
    actual: dict[str, Any] = {"experiment": {"mode": mode, "value": value}, "requests": requests}
    return actual if boundaries is None else {**actual, "window_boundaries": boundaries}


def request(sent: int, *answered: int, **more: int) -> dict[str, Any]:
    return {"timestamp": sent, "response_timestamps": list(answered), **more}


def levels(path: Path, *experiments: dict[str, Any]) -> list[ProfileLevel]:
    path = path / "profile.json"
    path.write_text(json.dumps({"experiments": list(experiments), "version": "2.59", "service_kind": "triton"}))
    return read_profile(path)


def test_levels_and_their_requests(tmp_path: Path) -> None:
    one, two = levels(
        tmp_path,
        experiment([request(5, 9), request(1, 7)], [0, 10]),
        experiment([request(1, 2)], [0, 10], "request_rate", 62.5),
    )
    assert (one.mode, one.value, one.windows_ns) == ("concurrency", 4.0, ((0, 10),))
    assert (list(one.due_ns), list(one.done_ns), list(one.answers)) == ([1, 5], [7, 9], [1, 1])
    assert one.due_ns is one.sent_ns
    assert not one.streams
    assert (two.mode, two.value) == ("request_rate", 62.5)


def test_windows_that_touch_share_an_edge(tmp_path: Path) -> None:
    requests = [request(at, at + 5) for at in (1, 11, 21)]
    (level,) = levels(tmp_path, experiment(requests, [0, 10, 20, 30]))
    assert level.windows_ns == ((0, 10), (10, 20), (20, 30))


def test_an_exported_profile_is_imported_unchanged(tmp_path: Path) -> None:
    """Both edges of each window are there, apart or touching; nothing is due between them."""
    windows = [
        closed_loop((10, 20), (90, 130), start_ns=0, stop_ns=100),
        closed_loop((310, 320), start_ns=300, stop_ns=400),
        closed_loop((410, 420), start_ns=400, stop_ns=500),
    ]
    export = ProfileExport(tmp_path / "profile.json", 1_000)
    export.add("concurrency", 2, windows)
    export.close()
    (level,) = read_profile(tmp_path / "profile.json")
    assert level.windows_ns == ((1000, 1100), (1300, 1400), (1400, 1500))
    assert list(level.due_ns) == [1010, 1090, 1310, 1410]


def test_open_loop_and_streams(tmp_path: Path) -> None:
    requests = [request(12, 20, 60, scheduled=10, responses=5), request(30, 31, scheduled=30)]
    (level,) = levels(tmp_path, experiment(requests, [0, 100]))
    assert level.streams
    assert (list(level.due_ns), list(level.sent_ns)) == ([10, 30], [12, 30])
    assert (list(level.first_ns), list(level.done_ns), list(level.answers)) == ([20, 31], [60, 31], [5, 1])
    assert column([1]).tolist() == [1]


def test_requests_without_an_answer_failed(tmp_path: Path) -> None:
    (level,) = levels(tmp_path, experiment([request(7), request(1, 2), request(3)], [0, 10]))
    assert (list(level.due_ns), list(level.failed_ns)) == ([1], [3, 7])


def test_a_schedule_is_written_as_the_rate_zero(tmp_path: Path) -> None:
    """Request intervals, fixed schedules and conversations are imported, with their mean rate as the load point."""
    requests = [
        request(1_000_000_000 + number * 40_010_000, 2_000_000_000 + number * 50_000_000) for number in range(26)
    ]
    (level,) = levels(tmp_path, experiment(requests, [1_000_000_000, 2_100_000_000], "request_rate", 0.0))
    assert (level.mode, level.value) == ("schedule", 25.0)
    (alone,) = levels(tmp_path, experiment([request(5, 9)], None, "request_rate", 0.0))
    assert alone.value > 0


@pytest.mark.parametrize(
    ("edges", "windows"),
    [
        ([50], ()),
        ([50, 0], ((0, 50),)),
        ([0, 0, 50, 50], ((0, 50),)),
        ([500, 600], ()),
        ([0, 10, 20, 500], ((0, 10), (10, 20))),
        ([0, (1 << 63) - 1], "longer than a day"),
        ([0, 1 << 63], "which is not a time in ns"),
        ([-5, 50], "which is not a time in ns"),
        ([0, 10.5], "should be int, not float"),
        ([0, None], "should be int, not NoneType"),
        ([0, True], "should be int, not bool"),
    ],
)
def test_absurd_edges(tmp_path: Path, edges: list[Any], windows: str | tuple[tuple[int, int], ...]) -> None:
    data = experiment([request(1, 7), request(12, 18)], edges)
    if isinstance(windows, str):
        with pytest.raises(OptionError, match=windows):
            levels(tmp_path, data)
    else:
        assert levels(tmp_path, data)[0].windows_ns == windows


def test_absurd_times_are_refused(tmp_path: Path) -> None:
    for sent, answered in ((1 << 70, (1 << 70) + 1), (-3, 1), (1, 1 << 64)):
        with pytest.raises(OptionError, match="which is not a time in ns"):
            levels(tmp_path, experiment([request(sent, answered)], [0, 10]))


def test_without_edges(tmp_path: Path) -> None:
    assert levels(tmp_path, experiment([request(1, 2)]))[0].windows_ns == ()
    assert levels(tmp_path, experiment([request(1, 2)], []))[0].windows_ns == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not complete JSON"),
        ('{"experiments": [', "is not complete JSON"),
        ("[]", "should be a JSON object, not list .is this file a profile export"),
        ("{}", "has no 'experiments'"),
        ('{"experiments": {}}', "experiments should be list, not dict"),
        ('{"experiments": []}', "experiments is empty"),
        ('{"experiments": [5]}', r"experiments\[0\] should be a JSON object, not int"),
        ('{"experiments": [{}]}', r"experiments\[0\] has no 'experiment'"),
        ("[" * 100_000, "is not complete JSON"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(OptionError, match=message) as caught:
        read_profile(path)
    assert str(path) in str(caught.value)


GOOD = request(1, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (experiment([GOOD], mode="periodic_concurrency_range"), "has the mode 'periodic_concurrency_range'"),
        (experiment([GOOD], value=0), r"experiment has the value 0, which is not a valid concurrency"),
        (experiment([GOOD], value=10**400), r"experiment has the value 1000.*, which is not a valid concurrency"),
        (experiment([GOOD], value=1.5), r"experiment has the value 1.5, which is not a valid concurrency"),
        (experiment([GOOD], mode="request_rate", value=-1), "which is not a valid request rate"),
        (experiment([GOOD], value="4"), r"experiment\.value should be float, not str"),  # type: ignore[arg-type]
        (experiment([GOOD], value=True), r"experiment\.value should be float, not bool"),
        (experiment([]), r"experiments\[0\] has no answered request"),
        (experiment([request(1)]), "no answered request"),
        (experiment([GOOD, {"timestamp": 1}]), r"requests\[1\] has no 'response_timestamps'"),
        (experiment([{"response_timestamps": [1]}]), r"requests\[0\] has no 'timestamp'"),
        (experiment([request(1.5, 2)]), r"requests\[0\]\.timestamp should be int, not float"),  # type: ignore[arg-type]
        (experiment([request(5, 4)]), r"requests\[0\]\.response_timestamps\[0\] is earlier"),
        (experiment([request(1, 9, 4)]), r"response_timestamps\[1\] is earlier"),
        (experiment([request(1, 2, scheduled="1")]), r"scheduled should be int"),  # type: ignore[arg-type]
        (experiment([GOOD], ["0"]), r"window_boundaries\[0\] should be int, not str"),  # type: ignore[list-item]
    ],
)
def test_an_error_names_the_field(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        levels(tmp_path, wrong)


def test_a_repeated_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="concurrency 4 occurs twice"):
        levels(tmp_path, experiment([GOOD]), experiment([GOOD]))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        read_profile(tmp_path / "none.json")
