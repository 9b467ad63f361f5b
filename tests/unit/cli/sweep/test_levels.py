from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.cli.sweep import report as sweep_report
from pytest_gpuperf.cli.sweep.command import input_data
from pytest_gpuperf.cli.sweep.levels import in_flight_of, measure_levels, spec_of
from pytest_gpuperf.cli.sweep.report import SweepReport, settings_lines
from pytest_gpuperf.cli.sweep.settings import INTERVALS, REQUEST_RATE, SteppedRange, SweepSettings
from pytest_gpuperf.errors import OptionError, TargetDied
from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.load.generator import Times
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad
from pytest_gpuperf.model import Address, Constant, Intervals, PlainMapping, Poisson, Request, ServerTimes, WireWorkload
from pytest_gpuperf.model import Workload as AnyWorkload

MS = 1_000_000


class Served:
    """A running target that needs no server."""

    local = False
    processes = ()
    metrics_url = None

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def workload(self, batch_size: int, in_flight: int = 1) -> WireWorkload:
        self.asked.append((batch_size, in_flight))
        request = Request(b"")
        return WireWorkload("http", (Address("host", 8000),), "/", ((request,),), batch_size=batch_size)

    def under_test(self) -> PlainMapping:
        return {}

    def server_times(self) -> ServerTimes | None:
        return None

    def check(self) -> None:
        """Always alive."""

    def stop(self) -> None:
        """Nothing to stop."""


class Scripted:
    """A load generator whose windows are as slow as a script says; every ``concurrency`` requests at once.

    Args:
        latency_ms: of the n-th window of a load, or what it ends with.
        errors: of every window.
    """

    def __init__(self, latency_ms: Callable[[float, int], float], errors: Mapping[str, int] | None = None) -> None:
        self._latency_ms, self._errors = latency_ms, errors or {}
        self.specs: list[WindowSpec] = []

    def window(self, workload: AnyWorkload, spec: WindowSpec) -> Recording:
        assert isinstance(workload, WireWorkload)
        load = _load(spec)
        visit = sum(_load(one) == load for one in self.specs if not one.once)
        self.specs.append(spec)
        length_ns = int(spec.window_s * 1e9) or 1000 * MS
        latency_ns = int(self._latency_ms(load, visit) * MS)
        due = range(0, length_ns, latency_ns if spec.arrivals is None else int(1e9 / load))
        sent = memoryview(array("q", [at for at in due for _ in range(max(spec.concurrency, 1))]))
        done = memoryview(array("q", [at + latency_ns for at in sent]))
        due_ns = sent if spec.arrivals is None else memoryview(array("q", sent))
        return Recording(0, length_ns, (Times(due_ns, sent, done),), dict(self._errors), "", 0.0)

    def close(self) -> None:
        """Nothing to close."""


def _load(spec: WindowSpec) -> float:
    return spec.arrivals.rate if spec.arrivals is not None else spec.concurrency


def under_load(settings: SweepSettings, served: Served, generator: Scripted) -> TargetUnderLoad:
    return TargetUnderLoad(served, in_flight_of(settings), [], generator=generator)


class Sweep:
    """A sweep over scripted windows, and what came of it."""

    def __init__(
        self, script: Callable[[float, int], float], errors: Mapping[str, int] | None = None, **settings: Any
    ) -> None:
        self.settings = SweepSettings("flower", window_s=settings.pop("window_s", 1.0), **settings)
        self.served, self.generator = Served(), Scripted(script, errors)
        self.lines: list[str] = []
        self.report = SweepReport(self.settings, self.lines.append)

    def run(self) -> Sweep:
        try:
            measure_levels(self.settings, under_load(self.settings, self.served, self.generator), self.report)
        finally:
            self.report.close()
        return self

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def loads(self) -> list[float]:
        """In order of measurement, each once."""
        return list(dict.fromkeys(_load(spec) for spec in self.generator.specs))

    @property
    def rows(self) -> list[dict[str, str]]:
        assert self.settings.csv is not None
        with self.settings.csv.open() as file:
            return list(csv.DictReader(file))


def test_stable_levels_take_three_windows_each(tmp_path: Path) -> None:
    sweep = Sweep(lambda load, _: 5.0 * load**0.5, levels=SteppedRange(1, 9, 4), csv=tmp_path / "a.csv").run()
    assert [spec.concurrency for spec in sweep.generator.specs] == [1] * 3 + [5] * 3 + [9] * 3
    assert sweep.report.status == 0
    assert [row["Concurrency"] for row in sweep.rows] == ["1", "5", "9"]
    assert [float(row["Inferences/Second"]) for row in sweep.rows] == pytest.approx([200, 447, 600], rel=0.01)
    assert [float(row["p50 latency"]) for row in sweep.rows] == pytest.approx([5000, 11180, 15000], rel=0.01)
    assert "Request concurrency: 5" in sweep.lines
    assert sweep.lines[-1].startswith("Concurrency: 9, throughput: 600")


def test_an_unstable_level_is_kept_and_marked_and_the_sweep_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {
        "levels": SteppedRange(1, 3),
        "trials": 5,
        "csv": tmp_path / "a.csv",
        "verbose_csv": True,
    }
    sweep = Sweep(lambda load, visit: 10.0 * (1 + visit % 2) if load == 2 else 10.0, **settings).run()
    assert sweep.loads == [1, 2, 3]
    assert {row["Concurrency"]: row["Stability"] for row in sweep.rows} == {
        "1": "stable",
        "2": "unstable",
        "3": "stable",
    }
    assert next(row["Windows"] for row in sweep.rows if row["Concurrency"] == "2") == "5"
    assert "[WARNING] unstable: the last 3 of 5 windows differ by 100%" in sweep.text
    assert "concurrency 2 is unstable" in capsys.readouterr().err
    assert sweep.report.status == 3


def test_a_linear_sweep_ends_above_the_threshold(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"levels": SteppedRange(1, 100), "threshold_ms": 25.0, "csv": tmp_path / "a.csv"}
    sweep = Sweep(lambda load, _: 10.0 * load, **settings).run()
    assert sweep.loads == [1, 2, 3]
    assert len(sweep.rows) == 2
    assert "over the latency threshold" in sweep.lines[-1]
    assert sweep.report.status == 0


def test_a_binary_search_prints_its_result() -> None:
    settings: dict[str, Any] = {"levels": SteppedRange(1, 64), "threshold_ms": 225.0, "binary_search": True}
    sweep = Sweep(lambda load, _: 10.0 * load, **settings).run()
    assert sweep.loads[:3] == [1, 64, 32]
    assert "Highest level within 225 msec: Concurrency: 22" in sweep.text


def test_a_binary_search_is_not_misled_by_an_unstable_level() -> None:
    """MeasuredLevel 4 keeps the threshold clearly, but its windows never agree."""

    def script(load: float, visit: int) -> float:
        return 5.0 * load * (1 + 0.3 * (visit % 2) * (load == 4))

    settings: dict[str, Any] = {"levels": SteppedRange(1, 8), "threshold_ms": 34.0, "binary_search": True, "trials": 6}
    sweep = Sweep(script, **settings).run()
    assert "Highest level within 34 msec: Concurrency: 6" in sweep.text
    assert sweep.report.status == 3


def test_a_binary_search_without_an_answer_says_so() -> None:
    settings: dict[str, Any] = {"levels": SteppedRange(4, 64), "threshold_ms": 5.0, "binary_search": True}
    assert "No level of the range" in Sweep(lambda *_: 10.0, **settings).run().text


def test_levels_over_the_threshold_take_three_windows_however_they_differ() -> None:
    sweep = Sweep(lambda _, visit: 100.0 * (visit + 1), threshold_ms=5.0, trials=9).run()
    assert len(sweep.generator.specs) == 3
    assert sweep.report.status == 0


def test_failed_requests_above_the_budget_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep(lambda *_: 10.0, errors={"status 503": 20}).run()
    assert sweep.report.status == 1
    assert "Failed requests: 60 (status 503 x 60)" in sweep.text
    assert "60 of 360 requests failed" in capsys.readouterr().err


def test_what_was_measured_survives_the_death_of_the_server(tmp_path: Path) -> None:
    def script(load: float, visit: int) -> float:
        if load == 2 and visit == 1:
            raise TargetDied("it is gone")
        return 10.0

    settings: dict[str, Any] = {
        "levels": SteppedRange(1, 3),
        "csv": tmp_path / "a.csv",
        "verbose_csv": True,
        "profile_export": tmp_path / "a.json",
    }
    sweep = Sweep(script, **settings)
    with pytest.raises(TargetDied):
        sweep.run()
    states = {row["Concurrency"]: (row["Stability"], row["Windows"]) for row in sweep.rows}
    assert states == {"1": ("stable", "3"), "2": ("interrupted", "1")}
    experiments = json.loads((tmp_path / "a.json").read_text())["experiments"]
    assert [len(one["window_boundaries"]) for one in experiments] == [6, 2]
    assert sweep.lines[-1].endswith("(interrupted)")


def test_ctrl_c_writes_and_prints_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(load: float, _: int) -> float:
        if load == 2:
            raise KeyboardInterrupt
        return 10.0

    def sweep(settings: SweepSettings, report: SweepReport, _record: object) -> None:
        measure_levels(settings, under_load(settings, Served(), Scripted(script)), report)

    monkeypatch.setattr("pytest_gpuperf.cli.sweep.command._sweep", sweep)
    path = tmp_path / "a.csv"
    assert main(["sweep", "-m", "flower", "-p", "1000", "--concurrency-range", "1:4", "-f", str(path)]) == 130
    captured = capsys.readouterr()
    assert path.read_text().splitlines()[1].startswith("1,100,")
    assert captured.out.splitlines()[-1].startswith("Concurrency: 1, throughput: 100 infer/sec")
    assert "interrupted" in captured.err


def test_the_table_is_written_after_every_level(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lengths = []

    def script(_: float, visit: int) -> float:
        if visit == 0:
            lengths.append(len(path.read_text().splitlines()) if path.exists() else 0)
        return 10.0

    Sweep(script, levels=SteppedRange(1, 3), csv=path).run()
    assert lengths == [0, 2, 3]


def test_a_full_disk_is_one_line_and_costs_no_results(
    tmp_path: Path, file_size_limit: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    files: dict[str, Any] = {"csv": tmp_path / "a.csv", "profile_export": tmp_path / "a.json"}
    devices: list[dict[str, Any]] = [{}, {"csv": Path("/dev/full")}]
    for device in devices:
        sweep = Sweep(lambda *_: 10.0, levels=SteppedRange(1, 2), **{**files, **device})
        file_size_limit(64)
        sweep.run()
        file_size_limit(resource.RLIM_INFINITY)
        assert sweep.report.status == 1
        assert [line for line in sweep.lines if line.startswith("Concurrency: ")]
        errors = capsys.readouterr().err.splitlines()
        assert sorted(line.split(" can't be written: ")[0] for line in errors) == sorted(
            f"gpuperf sweep: {path}" for path in {**files, **device}.values()
        )


@pytest.mark.usefixtures("capsys")  # otherwise standard error is a file, too
def test_a_disk_that_has_room_again_gets_all_levels(tmp_path: Path, file_size_limit: Callable[[int], None]) -> None:
    def script(load: float, _: int) -> float:
        file_size_limit(64 if load == 1 else resource.RLIM_INFINITY)
        return 10.0

    sweep = Sweep(script, levels=SteppedRange(1, 2), csv=tmp_path / "a.csv").run()
    assert sweep.report.status == 0
    assert [row["Concurrency"] for row in sweep.rows] == ["1", "2"]


def test_a_pipe_gets_the_table_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(pipe.read_text)
        Sweep(lambda *_: 10.0, levels=SteppedRange(1, 2), csv=pipe).run()
        assert reader.result(10).count("Inferences/Second") == 1
    assert pipe.is_fifo()


def test_standard_output_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may lead to a file; neither the link nor the file may be replaced."""
    devices = tmp_path / "dev"
    devices.mkdir()
    monkeypatch.setattr(sweep_report, "_DEVICES", devices)
    (tmp_path / "redirected.txt").touch()
    number = (tmp_path / "redirected.txt").stat().st_ino
    stdout = devices / "stdout"
    stdout.symlink_to(tmp_path / "redirected.txt")
    Sweep(lambda *_: 10.0, csv=stdout).run()
    assert stdout.is_symlink()
    assert stdout.read_text().startswith("Concurrency,")
    assert stdout.stat().st_ino == number
    with pytest.raises(OptionError, match="regular file"):
        Sweep(lambda *_: 10.0, profile_export=stdout)


def test_a_link_is_followed_and_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "latest.csv"
    link.symlink_to("real.csv")
    Sweep(lambda *_: 10.0, csv=link).run()
    assert link.is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("Concurrency,")


def test_open_loop_levels_follow_a_schedule(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "mode": REQUEST_RATE,
        "levels": SteppedRange(50.0, 100.0, 50.0),
        "csv": tmp_path / "a.csv",
    }
    sweep = Sweep(lambda *_: 5.0, **settings).run()
    assert [spec.arrivals for spec in sweep.generator.specs] == [Constant(50.0)] * 3 + [Constant(100.0)] * 3
    assert {spec.concurrency for spec in sweep.generator.specs} == {0}
    assert [row["Request Rate"] for row in sweep.rows] == ["50", "100"]
    assert "Service time (from the send, not the schedule): avg" in sweep.text
    # Memory for each request in flight, where there are outputs in shared memory.
    assert sweep.served.asked[0] == (1, 256)


def test_windows_of_a_random_schedule_differ() -> None:
    settings: dict[str, Any] = {"mode": REQUEST_RATE, "levels": SteppedRange(50.0, 50.0), "poisson": True, "seed": 4}
    sweep = Sweep(lambda *_: 5.0, **settings).run()
    schedules = [spec.arrivals for spec in sweep.generator.specs]
    assert schedules[0] == Poisson(50.0, 4)
    assert len(set(schedules)) == 3
    assert "Request Rate: 50 inference requests per seconds" in sweep.lines


def test_recorded_intervals_say_where_they_come_from() -> None:
    settings: dict[str, Any] = {"mode": INTERVALS, "levels": SteppedRange(100.0, 100.0)}
    sweep = Sweep(lambda *_: 5.0, intervals=Intervals((10 * MS,), "trace.txt"), **settings).run()
    assert "Request Rate: 100 inference requests per seconds (intervals of trace.txt)" in sweep.lines


def test_a_request_count_takes_the_place_of_windows() -> None:
    sweep = Sweep(lambda *_: 10.0, levels=SteppedRange(2, 2), request_count=40, warmup_count=7).run()
    warmup, measured = sweep.generator.specs
    assert (warmup.once, warmup.min_requests) == (True, 7)
    assert (measured.once, measured.min_requests) == (True, 40)
    assert sweep.report.status == 0


def test_windows_are_printed_with_v() -> None:
    assert "  Pass [3] throughput: 100 infer/sec. Avg latency: 10" in Sweep(lambda *_: 10.0, verbose=True).run().text
    assert "Pass" not in Sweep(lambda *_: 10.0).run().text


def test_an_overloaded_level_has_a_warning() -> None:
    """Half of the answers come after the window, which is as long as the queue behind the server."""
    settings: dict[str, Any] = {"mode": REQUEST_RATE, "levels": SteppedRange(100.0, 100.0)}
    assert "[WARNING] the rate was not sustained" in Sweep(lambda *_: 900.0, **settings).run().text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"window_s": 5.0}, {"window_s": 5.0, "min_requests": 1, "lead_in_s": 1.0, "concurrency": 3}),
        ({"window_s": 0.5}, {"window_s": 0.5, "lead_in_s": 0.1, "max_window_s": 60.0}),
        ({"window_s": 1.0, "window_requests": 500}, {"window_s": 1.0, "min_requests": 500}),
        ({"request_count": 20, "deadline_s": 9.0}, {"window_s": 0.0, "min_requests": 20, "deadline_s": 9.0}),
    ],
)
def test_windows_are_timed_as_the_command_says(settings: dict[str, Any], expected: dict[str, object]) -> None:
    spec = spec_of(SweepSettings("flower", **settings), 3)
    assert {name: getattr(spec, name) for name in expected} == expected


def test_settings_are_printed_as_by_perf_client() -> None:
    lines = settings_lines(SweepSettings("flower", levels=SteppedRange(1, 3), window_s=0.3, percentile=85.0))
    assert lines[:2] == ["*** Measurement Settings ***", "  Batch size: 1"]
    assert '  Using "time_windows" mode for stabilization' in lines
    assert "  Stabilizing using p85 latency and throughput" in lines
    assert "  Measurement window: 300 msec" in lines
    assert "  Concurrency limit: 3 concurrent requests" in lines
    counts = settings_lines(SweepSettings("flower", window_requests=50, mode=REQUEST_RATE, poisson=True))
    assert "  Minimum number of samples in each window: 50" in counts
    assert "  Using poisson distribution on request generation" in counts


@pytest.mark.parametrize("flag", ["-f", "--profile-export-file"])
@pytest.mark.parametrize("path", ["/no/such/directory/a.csv", "/"])
def test_an_unwritable_file_is_reported_before_the_sweep(
    flag: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "-m", "flower", flag, path]) == 2
    assert f"{path} can't be written" in capsys.readouterr().err


def test_a_command_that_can_not_be_used_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "-m", "flower", "--concurrency-range", "9:1"]) == 2
    assert capsys.readouterr().err.startswith("gpuperf sweep: --concurrency-range ends at 1")


def test_a_server_that_is_not_there_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "-m", "flower", "-u", "127.0.0.1:1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def write(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_a_single_data_source_is_passed_on() -> None:
    with input_data(["zero"]) as source:
        assert source == "zero"


def test_several_data_files_are_joined_in_order(tmp_path: Path) -> None:
    one = write(tmp_path / "a.json", {"data": [{"x": [1]}], "validation_data": [{"y": [1]}]})
    two = write(tmp_path / "b.json", {"data": [[{"x": [2]}], [{"x": [3]}]], "validation_data": [[{"y": [2]}]] * 2})
    with input_data([one, two]) as source:
        document = json.loads(Path(source).read_text())
    assert document["data"] == [{"x": [1]}, [{"x": [2]}], [{"x": [3]}]]
    assert len(document["validation_data"]) == 3
    assert not Path(source).exists()


@pytest.mark.parametrize(
    ("documents", "part"),
    [
        ([{"data": []}, []], "no list"),
        ([{"data": []}, {"data": 3}], "no list"),
        ([{"data": []}, {"data": [], "validation_data": []}], "either all files"),
    ],
)
def test_data_files_that_can_not_be_joined_are_named(tmp_path: Path, documents: Sequence[object], part: str) -> None:
    paths = [write(tmp_path / f"{number}.json", document) for number, document in enumerate(documents)]
    with pytest.raises(OptionError, match=part) as error, input_data(paths):
        pass
    assert paths[1] in str(error.value)


def test_a_directory_can_not_be_joined_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="must be JSON files"), input_data([str(tmp_path), str(tmp_path)]):
        pass


def test_starting_up_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'scipy', 'tritonclient', 'grpc', 'pytest'}"
    code = f"import sys, pytest_gpuperf.cli.main; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"
