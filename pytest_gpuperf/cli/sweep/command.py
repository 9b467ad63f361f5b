"""``gpuperf sweep``: the command.

What is measured is printed and written level by level, so that neither an error nor Ctrl-C loses it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from pytest_gpuperf.cli.sweep.flags import add_arguments
from pytest_gpuperf.cli.sweep.levels import in_flight_of, measure_levels
from pytest_gpuperf.cli.sweep.options import read
from pytest_gpuperf.cli.sweep.record import SweepRecord
from pytest_gpuperf.cli.sweep.report import FAILED, SweepReport
from pytest_gpuperf.cli.sweep.settings import SweepSettings
from pytest_gpuperf.cli.sweep.spelling import flag_of
from pytest_gpuperf.errors import GpuperfError, OptionError, TargetError
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad
from pytest_gpuperf.targets.input_file import read_json
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.kserve.endpoint import StartedEndpoint
from pytest_gpuperf.user_path import user_path

MISUSED, STOPPED = 2, 130


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status (see ``sweep.flags``)."""
    try:
        settings = read(options)
        for flag, reason in settings.ignored:
            print(f"gpuperf sweep: {flag} has no effect: {reason}.", file=sys.stderr)
        record = None if settings.record is None else SweepRecord(settings, settings.record)
        report = SweepReport(settings, record=record)
        complete = False
        try:
            report.begin()
            _sweep(settings, report, record)
            complete = True
        finally:
            report.close()
            if record is not None:
                record.store(complete=complete)
    except GpuperfError as error:
        misused, spelling = isinstance(error, OptionError), partial(flag_of, protocol=options.protocol)
        print(f"gpuperf{' sweep' if misused else ''}: {error.spelled(spelling)}", file=sys.stderr)
        return MISUSED if misused else FAILED
    except KeyboardInterrupt:
        print("gpuperf sweep: interrupted; the results so far are above.", file=sys.stderr)
        return STOPPED
    return report.status


def _sweep(settings: SweepSettings, report: SweepReport, record: SweepRecord | None) -> None:
    """Measure level after level.

    Raises:
        OptionError, TargetError, LoadError: The sweep failed. The finished levels have been reported.
    """
    with contextlib.ExitStack() as stack:
        endpoint = KServeEndpoint(
            settings.urls[0] if len(settings.urls) == 1 else settings.urls,
            settings.model,
            version=settings.version,
            headers=dict(settings.headers),
            tls=settings.tls,
            protocol=settings.protocol,
            streaming=settings.streaming,
            shapes=dict(settings.shapes),
            input_data=stack.enter_context(input_data(settings.input_data)),
            seed=settings.seed,
            string_length=settings.string_length,
            string_data=settings.string_data,
            parameters=settings.parameters,
            sequences=settings.sequences,
            input_tensor_format=settings.input_tensor_format,
            output_tensor_format=settings.output_tensor_format,
            composing_models=settings.composing_models,
            shared_memory=settings.shared_memory,
            output_shared_memory_size=settings.output_bytes * settings.batch_size,
        )
        first = settings.point(settings.levels.start)
        under_load = TargetUnderLoad.start(endpoint, in_flight_of(settings), [first], settings.workers)
        stack.enter_context(closing(under_load))
        if record is not None:
            record.under_test = under_load.started.under_test()
        if settings.trace:
            assert isinstance(under_load.started, StartedEndpoint)
            stack.enter_context(tracing(under_load.started, settings.trace))
        measure_levels(settings, under_load, report)


@contextlib.contextmanager
def tracing(started: StartedEndpoint, settings: Mapping[str, str | Sequence[str]]) -> Iterator[None]:
    """Let the servers trace the model; at the end, return to their own settings, which also completes the trace files.

    Raises:
        TargetError: A server can't trace, or refuses a value.
    """
    try:
        try:
            started.trace(settings)
        except TargetError as error:
            raise TargetError(
                f"{error}\n--trace-level needs a server that --trace-config gave a trace file."
            ) from error
        yield
    finally:
        with contextlib.suppress(TargetError):
            started.trace(dict.fromkeys(settings))


@contextlib.contextmanager
def input_data(sources: Sequence[str]) -> Iterator[str]:
    """Yield one source of input data, which joins the data of several JSON files.

    Raises:
        OptionError: They can't be joined.
    """
    if len(sources) == 1:
        yield sources[0]
        return
    joined: dict[str, list[Any]] = {}
    for source in sources:
        try:
            document = read_json(user_path(source))
        except OptionError as error:
            raise OptionError(f"--input-data {source}: several sources must be JSON files. {error}") from error
        if not isinstance(document, dict):
            document = {}
        parts = {name: document[name] for name in ("data", "validation_data") if name in document}
        if "data" not in parts or not all(isinstance(part, list) for part in parts.values()):
            raise OptionError(f'--input-data {source}: the file has no list under "data".')
        if joined and parts.keys() != joined.keys():
            raise OptionError(f'--input-data {source}: either all files have "validation_data" or none.')
        for name, part in parts.items():
            joined.setdefault(name, []).extend(part)
    with tempfile.TemporaryDirectory(prefix="gpuperf-") as folder:
        path = Path(folder) / "input_data.json"
        path.write_text(json.dumps(joined))
        yield str(path)
