from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from pytest_gpuperf.model import EndpointFigures, Finding, LoadPoint, PointFigures, ServerTimes, Window
from pytest_gpuperf.model.finding import CLOCK_MOVED, CLOCKS
from pytest_gpuperf.model.level import STABLE, UNSTABLE, MeasuredLevel
from pytest_gpuperf.report.exchange.perf_client import (
    Layout,
    closing_lines,
    csv_rows,
    csv_text,
    level_lines,
    load_of,
    pass_line,
    title,
)
from pytest_gpuperf.report.latency_parts import deviation_of, latency_parts, mean_of
from tests.unit.factories import histogram, server_times, window

# What perf_analyzer 2.50 wrote.
COLUMNS = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
)
COLUMNS_85 = COLUMNS.replace("p90", "p85 latency,p90")
VERBOSE = ",Avg latency,request/response,response wait"
VERBOSE_85 = ",request/response,response wait"

PLAIN = Layout()
RATE = LoadPoint(0, 1, 200.0, "constant")


def closed(concurrency: int = 1, *, p50_ms: float = 1.0, throughput: float = 1000.0, batch_size: int = 1) -> Window:
    point = LoadPoint(concurrency, batch_size)
    return window(point, p50_ms=p50_ms, throughput=throughput, server=server_times())


def open_loop(wait_us: float = 500.0) -> Window:
    """A window whose requests were sent late."""
    sample = window(RATE, p50_ms=1.0, throughput=199.5, server=server_times())
    service = histogram([(1e6 - wait_us * 1e3)] * sample.requests)
    return replace(sample, service=service, latency_mean_ns=1e6, late=6, lag_p99_ns=1.5e6)


def level(
    sample: Window, state: str = STABLE, within: bool | None = True, why: str = "", taken: int = 3
) -> MeasuredLevel:
    return MeasuredLevel(PointFigures((sample,)), taken, state, within, why, sample.findings)


def rows(*levels: MeasuredLevel, layout: Layout = PLAIN) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(levels, layout))))


@pytest.mark.parametrize(
    ("layout", "header"),
    [
        (Layout(), COLUMNS),
        (Layout(percentile=85.0), COLUMNS_85),
        (Layout(percentile=99.0), COLUMNS),
        (Layout(verbose=True), COLUMNS + VERBOSE),
        (Layout(percentile=85.0, verbose=True), COLUMNS_85 + VERBOSE_85),
    ],
)
def test_columns_are_those_of_perf_client_and_additions_come_last(layout: Layout, header: str) -> None:
    titles = csv_text([level(closed())], layout).splitlines()[0]
    assert titles == header if not layout.verbose else titles.startswith(header + ",Stability,")


def test_rows_are_in_order_of_throughput() -> None:
    actual = rows(*(level(closed(load, throughput=rate)) for load, rate in ((1, 200.0), (2, 400.0), (3, 300.0))))
    assert [row["Concurrency"] for row in actual] == ["1", "3", "2"]


def test_times_are_whole_microseconds_and_add_up_to_the_mean() -> None:
    sample = closed(p50_ms=1.0)
    (row,) = rows(level(sample), layout=Layout(verbose=True))
    assert (row["Server Queue"], row["Server Compute Input"], row["Server Compute Output"]) == ("100", "50", "20")
    assert row["Server Compute Infer"] == "600"
    names = [name for name in row if name.startswith(("Client S", "Network", "Server", "Client R"))]
    assert sum(int(row[name]) for name in names if name != "Client stalled") == pytest.approx(
        sample.latency_mean_ns / 1e3, abs=len(names)
    )
    assert int(row["p50 latency"]) == pytest.approx(1000, rel=0.01)
    assert row["Avg latency"] == str(int(sample.latency_mean_ns / 1e3))


def test_the_network_is_never_below_zero() -> None:
    fast = replace(closed(p50_ms=0.1), latency_mean_ns=1e5)
    assert latency_parts(PointFigures((fast,))).network_ns == 0.0
    assert rows(level(fast))[0]["Network+Server Send/Recv"] == "0"


def test_in_open_loop_the_wait_before_the_send_is_the_clients() -> None:
    (row,) = rows(level(open_loop(wait_us=500.0)), layout=Layout(verbose=True))
    assert int(row["Client Send"]) == pytest.approx(500, abs=5)
    assert int(row["request/response"]) + int(row["response wait"]) == pytest.approx(1000, abs=2)
    assert (row["Request Rate"], row["Late sends"], row["Send lag p99"]) == ("200", "6", "1500")
    assert int(row["Service p50"]) == pytest.approx(500, abs=5)


def test_columns_of_the_server_are_left_out_where_it_says_nothing() -> None:
    text = csv_text([level(window(throughput=10.0))], Layout())
    assert text.splitlines()[0] == (
        "Concurrency,Inferences/Second,Client Send,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
    )


def test_levels_over_the_threshold_are_left_out_as_perf_client_does() -> None:
    actual = rows(level(closed(1)), level(closed(2), within=False), level(closed(3), UNSTABLE, None))
    assert [row["Concurrency"] for row in actual] == ["1", "3"]
    assert csv_text([level(closed(), within=False)], Layout()) == COLUMNS + "\n"
    assert csv_text([], Layout()) == ""


def test_unstable_levels_are_marked_in_the_verbose_table_only() -> None:
    unstable = level(closed(), UNSTABLE, taken=10)
    assert rows(unstable, layout=Layout(verbose=True))[0]["Stability"] == "unstable"
    assert rows(unstable, layout=Layout(verbose=True))[0]["Windows"] == "10"
    assert "unstable" not in csv_text([unstable], Layout())


def test_a_level_without_an_answer_has_no_latencies() -> None:
    silent = replace(window(requests=0, throughput=0.0, errors={"timeout": 9}), server=server_times(0))
    (row,) = rows(level(silent, UNSTABLE), layout=Layout(verbose=True))
    assert (row["Inferences/Second"], row["p50 latency"], row["Avg latency"]) == ("0", "", "")
    assert row["Failed requests"] == "9"


def test_streams_with_several_answers_have_their_rate() -> None:
    stream = replace(closed(), answers=600, first=closed().latency)
    (row,) = rows(level(stream))
    assert row["Response Throughput"] == "1200"
    assert "Response Throughput" not in rows(level(replace(closed(), answers=60)))[0]
    text = "\n".join(level_lines(level(stream), Layout()))
    assert "Response Throughput: 1200 infer/sec" in text
    assert "First response: avg " in text


@pytest.mark.parametrize(
    ("throughput", "text"), [(2198.6312, "2198.63"), (63.57221, "63.5722"), (12433.06, "12433.1"), (2.5e6, "2500000")]
)
def test_throughput_has_six_digits(throughput: float, text: str) -> None:
    assert rows(level(closed(throughput=throughput)))[0]["Inferences/Second"] == text


def test_a_level_reads_as_in_perf_client() -> None:
    sample = replace(closed(4, throughput=4384.99, batch_size=2), client_cpu_s=60 * 14e-6)
    lines = level_lines(level(sample), Layout())
    assert lines[:3] == ["  Client: ", "    Request count: 60", "    Throughput: 4384.99 infer/sec"]
    # How scripts read it.
    text = "\n".join(lines)
    for percentile in (50, 90, 95, 99):
        assert re.search(rf"p{percentile} latency: (\d+) usec", text)
    assert re.search(r"Avg latency: 100\d usec \(standard deviation 9\d usec\)", text)
    assert lines[lines.index("  Server: ") :] == [
        "  Server: ",
        "    Inference count: 120",
        "    Execution count: 60",
        "    Successful request count: 60",
        "    Avg request latency: 770 usec "
        "(queue 100 usec + compute input 50 usec + compute infer 600 usec + compute output 20 usec)",
    ]
    assert "    Load generator: 14.0 usec CPU per request" in lines
    assert "WARNING" not in text


def test_a_level_shows_its_warnings() -> None:
    findings = (Finding(CLOCK_MOVED, CLOCKS, 1980.0, 1700.0),)
    bad = replace(
        closed(),
        errors={"timeout": 3, "status 503": 1},
        error_sentences={"status 503": {"the queue is full": 1}},
        findings=findings,
        stall_s=0.02,
    )
    text = "\n".join(level_lines(level(bad, UNSTABLE, why="the windows differ"), Layout()))
    assert "Failed requests: 4 (timeout x 3, status 503 x 1)\n      status 503 x 1: the queue is full" in text
    assert "stalled for 20.0 msec" in text
    assert "  [WARNING] the GPU clock moved between 1700 and 1980 MHz" in text
    assert "  [WARNING] unstable: the windows differ" in text


def test_a_level_in_open_loop_shows_response_and_service_time() -> None:
    text = "\n".join(level_lines(level(open_loop()), Layout()))
    assert "Avg latency: 1000 usec" in text
    assert re.search(r"Service time .*: avg (499|500|501) usec, p50 \d+ usec, p90 \d+ usec, p99 \d+ usec", text)
    assert "Late sends: 6 of 60 (10.00%) more than 1 msec late; 99% within 1500 usec" in text


def test_a_level_shows_every_endpoint() -> None:
    endpoints = (
        EndpointFigures("a:8000", 40, 1, 400.0, histogram([1e6] * 40)),
        EndpointFigures("b:8000", 1, 0, 20.0, histogram([3e6])),
        EndpointFigures("behind:8000", 7, 0, 70.0),
    )
    lines = level_lines(level(replace(closed(), endpoints=endpoints)), Layout())
    a, b = (endpoints[0].latency, endpoints[1].latency)
    assert a is not None
    assert b is not None
    p50_us, p90_us = (int(a.quantile_ns(q) / 1e3) for q in (0.5, 0.9))
    assert f"    a:8000: 40 requests, 1 failed, 400 infer/sec, p50 {p50_us} usec, p90 {p90_us} usec" in lines
    assert f"    b:8000: 1 request, 0 failed, 20 infer/sec, p50 {int(b.quantile_ns(0.5) / 1e3)} usec" in "\n".join(
        lines
    )
    assert "    behind:8000: 7 requests, 70 infer/sec" in lines  # who failed there only the balancer knows


def test_the_closing_list_is_in_the_order_of_measurement() -> None:
    levels = [level(closed(1, throughput=2198.63)), level(closed(9, throughput=900.0), UNSTABLE)]
    assert closing_lines(levels, Layout()) == [
        "Inferences/Second vs. Client Average Batch Latency",
        f"Concurrency: 1, throughput: 2198.63 infer/sec, latency {int(closed().latency_mean_ns / 1e3)} usec",
        f"Concurrency: 9, throughput: 900 infer/sec, latency {int(closed().latency_mean_ns / 1e3)} usec (unstable)",
    ]
    percentile = closing_lines(levels, Layout(percentile=90.0))
    assert percentile[0] == "Inferences/Second vs. Client p90 Batch Latency"
    assert percentile[1].endswith(f"latency {int(closed().latency.quantile_ns(0.9) / 1e3)} usec")


def test_without_an_answer_there_is_no_latency() -> None:
    silent = level(window(requests=0, throughput=0.0), UNSTABLE)
    assert closing_lines([silent], Layout())[1].endswith("no request answered (unstable)")
    assert "No request was answered" in pass_line(1, window(requests=0, throughput=0.0), Layout())
    assert not any("latency" in line for line in level_lines(silent, Layout()))


def test_titles_and_passes() -> None:
    assert title(LoadPoint(3)) == "Request concurrency: 3"
    assert title(RATE) == "Request Rate: 200 inference requests per seconds"
    assert title(RATE, "intervals of a.txt").endswith("(intervals of a.txt)")
    assert load_of(RATE) == "Request Rate: 200"
    assert re.fullmatch(
        r"  Pass \[2\] throughput: 4011.88 infer/sec. p85 latency: 11\d\d usec",
        pass_line(2, closed(throughput=4011.88), Layout(percentile=85.0)),
    )
    assert re.fullmatch(
        r"  Pass \[1\] throughput: 1000 infer/sec. Avg latency: 100\d usec \(std 9\d usec\).",
        pass_line(1, closed(), Layout()),
    )


def test_mean_and_deviation_of_a_histogram() -> None:
    latencies = [1e6] * 100 + [3e6] * 100
    assert mean_of(histogram(latencies)) == pytest.approx(2e6, rel=0.005)
    assert deviation_of(histogram(latencies)) == pytest.approx(1e6, rel=0.01)
    assert deviation_of(histogram([5e6] * 10)) == pytest.approx(0.0, abs=1.0)


def test_times_of_a_server_that_counted_nothing() -> None:
    idle = replace(closed(), server=ServerTimes(0, 0, 0, 0, 0, 0))
    assert latency_parts(PointFigures((idle,))).server_ns == 0.0


def test_the_models_of_an_ensemble_are_told_apart() -> None:
    steps = {
        "resize": ServerTimes(100, 50, 1_000_000, 200_000, 3_000_000, 400_000),
        "inner": ServerTimes(100, 100, 0, 0, 0, 0, {"net": ServerTimes(100, 25, 0, 0, 7_000_000, 0)}),
    }
    window = replace(closed(), server=ServerTimes(100, 100, 1_000_000, 200_000, 10_000_000, 400_000, steps))
    level = MeasuredLevel(PointFigures((window,)), 1, "stable")
    lines = level_lines(level, Layout())
    assert lines[lines.index("  Composing models: ") :][1:6] == [
        "  resize",
        "      Inference count: 100",
        "      Execution count: 50",
        "      Successful request count: 100",
        "      Avg request latency: 46 usec (queue 10 usec + compute input 2 usec + compute infer 30 usec + compute "
        "output 4 usec)",
    ]
    assert "  net" in lines
    titles, cells = csv_rows([level], Layout(verbose=True))
    row = dict(zip(titles, cells, strict=True))
    assert (row["resize Queue"], row["resize Compute Infer"]) == ("10", "30")
    assert not any("resize" in title for title in csv_rows([level], Layout())[0])
