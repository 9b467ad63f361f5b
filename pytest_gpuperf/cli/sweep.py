"""``gpuperf sweep``: perf_client's command, on this package's load generator.

What is measured is printed and written level by level, so that neither an error nor Ctrl-C loses it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli.sweep_command import SweepCommand, later
from pytest_gpuperf.cli.sweep_options import add_arguments, read
from pytest_gpuperf.cli.sweep_report import SweepReport
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model.level import MeasuredLevel

if TYPE_CHECKING:
    from pytest_gpuperf.load import LoadGenerator, Recording, WindowSpec
    from pytest_gpuperf.measure.stability import StabilityRule
    from pytest_gpuperf.model import Window
    from pytest_gpuperf.targets import StartedTarget

MISUSED, STOPPED = 2, 130

#: Requests in flight in open loop, where each needs shared memory of its own: enough for 5,000/s at 50 ms.
_SHARED_IN_FLIGHT = 256
#: A window waits at most so many times its length for the requests that it has to have.
_LENGTHENED = 20


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "sweep",
        help="load on a served model, with perf_client's options, text and CSV",
        description="Measure throughput and latency of a served model over concurrencies or request rates. "
        "Takes perf_client's command line.",
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command line; its exit status (see ``sweep_options``)."""
    try:
        command = read(options)
        report = SweepReport(command)
    except OptionError as error:
        print(f"gpuperf sweep: {error}", file=sys.stderr)
        return MISUSED
    try:
        try:
            report.begin()
            _sweep(command, report)
        finally:
            report.close()
    except OptionError as error:
        print(f"gpuperf sweep: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("gpuperf sweep: interrupted; what was measured until then is above.", file=sys.stderr)
        return STOPPED
    return report.status


def _sweep(command: SweepCommand, report: SweepReport) -> None:
    """Measure level after level.

    Raises:
        OptionError, TargetError, LoadError: it can't go on. The levels until then have been reported.
    """
    from pytest_gpuperf.load import open_generator
    from pytest_gpuperf.targets.kserve import KServeEndpoint

    with contextlib.ExitStack() as stack:
        endpoint = KServeEndpoint(
            command.urls[0] if len(command.urls) == 1 else command.urls,
            command.model,
            version=command.version,
            headers=dict(command.headers),
            tls=command.tls,
            protocol=command.protocol,
            streaming=command.streaming,
            shapes=dict(command.shapes),
            input_data=stack.enter_context(input_data(command.input_data)),
            seed=command.seed,
            string_length=command.string_length,
            shared_memory=command.shared_memory,
            output_shared_memory_size=command.output_bytes * command.batch_size,
        )
        running = endpoint.start()
        stack.callback(running.stop)
        in_flight = command.most_in_flight or _SHARED_IN_FLIGHT
        generator = open_generator(running.workload(command.batch_size, in_flight), command.workers)
        stack.enter_context(closing(generator))
        measure_levels(command, running, generator, report)


def measure_levels(
    command: SweepCommand, running: StartedTarget, generator: LoadGenerator, report: SweepReport
) -> None:
    """Measure level after level, as the command says and their latencies allow."""
    loads = command.loads()
    try:
        load = next(loads)
        while True:
            report.start(load)
            level = _Measuring(command, running, generator, report).level(load)
            load = loads.send(level.within)
    except StopIteration as end:
        if command.binary_search:
            report.found(end.value)


class _Measuring:
    """Windows at one level, until they agree."""

    def __init__(
        self, command: SweepCommand, running: StartedTarget, generator: LoadGenerator, report: SweepReport
    ) -> None:
        self._command, self._running, self._generator, self._report = command, running, generator, report
        self._rule = rule_of(command)
        self._windows: list[Window] = []
        self._recordings: deque[Recording] = deque(maxlen=self._rule.recent)
        self._workers = 1

    def level(self, load: float) -> MeasuredLevel:
        """Measure and report it; also when it is cut short, with the windows there are."""
        cut_short = True
        try:
            self._measure(load)
            cut_short = False
        finally:
            if self._windows:
                level = self._rule.level(self._windows, interrupted=cut_short)
                level = replace(level, whole=self._judged(level.whole))
                self._report.add(load, level, list(self._recordings))
        return level

    def _measure(self, load: float) -> None:
        from pytest_gpuperf.measure.window import take_window

        command = self._command
        workload = self._running.workload(command.batch_size, command.most_in_flight or _in_flight(command, load))
        spec = spec_of(command, load)
        point, arrivals = command.point(load), spec.arrivals
        if command.warmup_count:
            self._generator.window(workload, once(spec, command.warmup_count))
        while not self._rule.is_done(self._windows):
            number = len(self._windows)
            if arrivals is not None:
                spec = replace(spec, arrivals=later(arrivals, number, spec.window_s + spec.lead_in_s))
            window, recording = take_window(
                self._generator,
                self._running,
                workload,
                name=command.model,
                point=point,
                spec=spec,
                visit=number,
            )
            self._windows.append(window)
            if command.profile_export is not None:
                self._recordings.append(recording)
            self._report.window(number + 1, window)
            self._workers = recording.workers

    def _judged(self, whole: Window) -> Window:
        """With the findings of all its windows taken together, instead of each one's."""
        from pytest_gpuperf.analysis.guard import findings

        errors = whole.error_count
        due = (whole.requests + errors) * whole.point.batch_size / whole.window_s if whole.point.rate else 0.0
        found = findings(
            window_s=whole.window_s,
            client_cpu_s=whole.client_cpu_s,
            workers=self._workers,
            requests=whole.requests,
            errors=errors,
            stall_s=whole.stall_s,
            late=whole.late,
            due_rate=due,
            done_rate=whole.throughput,
        )
        return replace(
            whole,
            guards=tuple(dict.fromkeys(one.kind for one in found)),
            findings=tuple(one.text for one in found),
        )


def rule_of(command: SweepCommand) -> StabilityRule:
    """When a level is done."""
    from pytest_gpuperf.measure.stability import StabilityRule

    threshold_ns = command.threshold_ms * 1e6
    if command.request_count:
        return StabilityRule(recent=1, most=1, percentile=command.percentile, threshold_ns=threshold_ns)
    return StabilityRule(
        command.tolerance, most=command.trials, percentile=command.percentile, threshold_ns=threshold_ns
    )


def spec_of(command: SweepCommand, load: float) -> WindowSpec:
    """How the windows of a level are timed."""
    from pytest_gpuperf.load import WindowSpec

    arrivals = command.arrivals(load)
    spec = WindowSpec(
        concurrency=int(load) if arrivals is None else 0,
        window_s=command.window_s,
        arrivals=arrivals,
        lead_in_s=command.lead_in_s,
        min_requests=max(command.window_requests, 1),
        max_window_s=max(_LENGTHENED * command.window_s, 60.0),
        deadline_s=command.deadline_s,
    )
    return once(spec, command.request_count) if command.request_count else spec


def once(spec: WindowSpec, requests: int) -> WindowSpec:
    """So many requests, and no window."""
    # As long as it takes: a slow server is ended by the deadline of its requests.
    return replace(
        spec, window_s=0.0, lead_in_s=0.0, min_requests=max(requests, spec.concurrency), max_window_s=float("inf")
    )


def _in_flight(command: SweepCommand, load: float) -> int:
    return _SHARED_IN_FLIGHT if command.open_loop else int(load)


@contextlib.contextmanager
def input_data(sources: Sequence[str]) -> Iterator[str]:
    """One source of data from one or several; those of several JSON files go one after the other.

    Raises:
        OptionError: they can't be put together.
    """
    if len(sources) == 1:
        yield sources[0]
        return
    whole: dict[str, list[Any]] = {}
    for source in sources:
        try:
            document = json.loads(Path(source).expanduser().read_bytes())
            parts = {name: document[name] for name in ("data", "validation_data") if name in document}
        except (OSError, ValueError, TypeError) as error:
            raise OptionError(f"--input-data {source}: only JSON files can be given together ({error}).") from error
        if "data" not in parts or not all(isinstance(part, list) for part in parts.values()):
            raise OptionError(f'--input-data {source}: it has no list under "data".')
        if whole and parts.keys() != whole.keys():
            raise OptionError(f'--input-data {source}: either all files have "validation_data" or none.')
        for name, part in parts.items():
            whole.setdefault(name, []).extend(part)
    with tempfile.TemporaryDirectory(prefix="gpuperf-") as folder:
        path = Path(folder) / "input_data.json"
        path.write_text(json.dumps(whole))
        yield str(path)
