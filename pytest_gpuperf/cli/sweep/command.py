"""``gpuperf sweep``: the command.

What is measured is printed and written level by level, so that neither an error nor Ctrl-C loses it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli.sweep.levels import in_flight_of, measure_levels
from pytest_gpuperf.cli.sweep.options import add_arguments, read
from pytest_gpuperf.cli.sweep.report import SweepReport
from pytest_gpuperf.cli.sweep.settings import SweepSettings
from pytest_gpuperf.errors import OptionError

if TYPE_CHECKING:
    from pytest_gpuperf.cli.sweep.record import SweepRecord

MISUSED, STOPPED = 2, 130


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
        settings = read(options)
        record = _record(settings)
        report = SweepReport(settings, record=record)
    except OptionError as error:
        print(f"gpuperf sweep: {error}", file=sys.stderr)
        return MISUSED
    complete = False
    try:
        try:
            report.begin()
            _sweep(settings, report, record)
            complete = True
        finally:
            report.close()
            if record is not None:
                record.store(complete=complete)
    except OptionError as error:
        print(f"gpuperf sweep: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("gpuperf sweep: interrupted; what was measured until then is above.", file=sys.stderr)
        return STOPPED
    return report.status


def _record(settings: SweepSettings) -> SweepRecord | None:
    from pytest_gpuperf.cli.sweep.record import SweepRecord

    return None if settings.record is None else SweepRecord(settings, settings.record)


def _sweep(settings: SweepSettings, report: SweepReport, record: SweepRecord | None = None) -> None:
    """Measure level after level.

    Raises:
        OptionError, TargetError, LoadError: it can't go on. The levels until then have been reported.
    """
    from pytest_gpuperf.measure.target_under_load import TargetUnderLoad
    from pytest_gpuperf.targets.kserve import KServeEndpoint

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
            shared_memory=settings.shared_memory,
            output_shared_memory_size=settings.output_bytes * settings.batch_size,
        )
        under_load = TargetUnderLoad.start(endpoint, in_flight_of(settings), settings.workers)
        stack.enter_context(closing(under_load))
        if record is not None:
            record.under_test = under_load.started.under_test()
        under_load.open([settings.point(settings.levels.start)])
        measure_levels(settings, under_load, report)


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
