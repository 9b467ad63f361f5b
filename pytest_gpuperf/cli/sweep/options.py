"""The settings that a command line of ``gpuperf sweep`` states."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf.cli.new_record import commit_hash
from pytest_gpuperf.cli.sweep.settings import (
    CONCURRENCY,
    INTERVALS,
    REQUEST_RATE,
    RecordSettings,
    SteppedRange,
    SweepSettings,
)
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Intervals, Tls
from pytest_gpuperf.targets.kserve import Sequences

#: Least values of options.
_LEAST = {
    "batch_size": 1,
    "measurement_interval": 1,
    "measurement_request_count": 1,
    "max_trials": 1,
    "workers": 1,
    "output_shared_memory_size": 1,
    "stability_percentage": 0,
    "latency_threshold": 0,
    "request_count": 0,
    "warmup_request_count": 0,
    "string_length": 0,
    "num_of_sequences": 1,
}
#: Triton's trace settings.
_TRACE = ("trace_level", "trace_rate", "trace_count", "log_frequency")


def read(options: argparse.Namespace) -> SweepSettings:
    """Return the settings of a parsed command line.

    Raises:
        OptionError: It can't be used.
    """
    mode, levels, intervals = _load(options)
    for name, least in _LEAST.items():
        if not getattr(options, name) >= least:
            flag = "-b" if name == "batch_size" else f"--{name.replace('_', '-')}"
            raise OptionError(f"{flag} {getattr(options, name):g}: write {least} or more.")
    if not options.deadline > 0:
        raise OptionError(f"--deadline {options.deadline:g}: write a number of seconds above 0.")
    if options.percentile != -1 and not 0 < options.percentile < 100:
        raise OptionError(f"--percentile {options.percentile:g} is not between 0 and 100 (-1 is the mean).")
    counts = options.measurement_mode == "count_windows"
    return SweepSettings(
        model=options.model,
        version=options.model_version,
        urls=_urls(options),
        protocol=options.protocol,
        streaming=options.streaming,
        headers=tuple(_header(text) for text in options.headers),
        tls=_tls(options),
        batch_size=options.batch_size,
        mode=mode,
        levels=levels,
        poisson=options.request_distribution == "poisson",
        intervals=intervals,
        binary_search=options.binary_search,
        # perf_client's count windows last a second at least.
        window_s=1.0 if counts else options.measurement_interval / 1000,
        window_requests=options.measurement_request_count if counts else 0,
        request_count=options.request_count,
        warmup_count=options.warmup_request_count,
        tolerance=options.stability_percentage / 100,
        trials=options.max_trials,
        percentile=None if options.percentile == -1 else options.percentile,
        threshold_ms=options.latency_threshold,
        input_data=_input_data(options),
        shapes=tuple(_shape(text) for text in options.shape),
        string_length=options.string_length,
        string_data=options.string_data,
        parameters=dict(_parameter(text) for text in options.request_parameter),
        sequences=_sequences(options),
        input_tensor_format=options.input_tensor_format,
        output_tensor_format=options.output_tensor_format,
        # The statistics of all versions of a model are added up.
        composing_models=tuple(name.split(":")[0].strip() for name in options.bls_composing_models.split(",") if name),
        trace={name: value for name in _TRACE if (value := getattr(options, name)) is not None},
        shared_memory=options.shared_memory,
        output_bytes=options.output_shared_memory_size,
        seed=options.seed,
        workers=options.workers,
        deadline_s=options.deadline,
        verbose=options.verbose > 0,
        csv=options.csv,
        verbose_csv=options.verbose_csv,
        profile_export=options.profile_export_file,
        record=_record(options),
        ignored=tuple(options.ignored.items()),
    )


def _record(options: argparse.Namespace) -> RecordSettings | None:
    given = [name for name in ("test", "commit", "device", "gpu") if getattr(options, name)]
    if not options.store:
        if given:
            raise OptionError(f"--{given[0]} describes a stored record: name the store, for example --store .gpuperf.")
        return None
    return RecordSettings(options.store, options.test.strip(), commit_hash(options.commit), options.device, options.gpu)


def _load(options: argparse.Namespace) -> tuple[str, SteppedRange, Intervals | None]:
    """Return the kind of load, its levels, and the recorded intervals."""
    given = {
        "--concurrency-range": options.concurrency_range,
        "-d" if options.old_search else "-t": _old_range(options),
        "--request-rate-range": options.request_rate_range,
        "--request-intervals": options.request_intervals,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if len(flags) > 1:
        raise OptionError(f"{' and '.join(flags)} are different loads: choose one of them.")
    if options.request_intervals is not None:
        try:
            intervals = Intervals.read(options.request_intervals)
        except (OSError, ValueError) as error:
            raise OptionError(f"--request-intervals can't be read: {error}") from error
        return INTERVALS, SteppedRange(intervals.rate, intervals.rate), intervals
    if options.request_rate_range is not None:
        return REQUEST_RATE, _range("--request-rate-range", options.request_rate_range, integers=False), None
    flag = flags[0] if flags else "--concurrency-range"
    return CONCURRENCY, _range(flag, given[flag] or "1", integers=True), None


def _old_range(options: argparse.Namespace) -> str | None:
    """Return the range of perf_client's old flags: -t its start, and with -d, -c its end."""
    start: str | None = options.old_concurrency
    return f"{start or 1}:{options.old_limit or 0}" if options.old_search else start


def _range(flag: str, text: str, *, integers: bool) -> SteppedRange:
    parts = text.split(":")
    try:
        numbers = [int(part) if integers else float(part) for part in parts]
    except ValueError:
        numbers = []
    valid = 1 <= len(numbers) <= 3 and numbers[0] > 0 and all(0 <= number < float("inf") for number in numbers)
    if not valid or (len(numbers) == 3 and not numbers[2]):
        kind = "whole numbers" if integers else "numbers"
        raise OptionError(f"{flag} {text} is not START:END:STEP: write {kind}, of which only END may be 0.")
    start, end, step = [*numbers, *((numbers[0], 1)[len(numbers) - 1 :])]
    return SteppedRange(start, end, step)


def _urls(options: argparse.Namespace) -> tuple[str, ...]:
    text = options.url or ("localhost:8001" if options.protocol == "grpc" else "localhost:8000")
    urls = tuple(url.strip() for url in text.split(","))
    if not all(urls):
        raise OptionError(f"-u {text} has an empty address; write HOST:PORT, or several with commas between them.")
    return urls


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise OptionError(f"-H {text!r} is not a header: write -H 'Name: value'.")
    return name.strip(), value.strip()


def _tls(options: argparse.Namespace) -> Tls | None:
    """Return the TLS settings; None for an unencrypted connection, or for the default settings."""
    grpc_names = ("root_certifications", "certificate_chain", "private_key")
    grpc = [getattr(options, f"ssl_grpc_{name}_file") for name in grpc_names]
    https_names = ("ca_certificates", "client_certificate", "private_key")
    https = [getattr(options, f"ssl_https_{name}_file") for name in https_names]
    for path in filter(None, (*grpc, *https)):
        if not Path(path).is_file():
            raise OptionError(f"An --ssl option names {path}: there is no file {path}.")
    verify, verify_host = bool(options.ssl_https_verify_peer), bool(options.ssl_https_verify_host)
    for_https = any(https) or not (verify and verify_host)
    use = str(options.ssl_grpc_use_ssl).lower()
    if use not in ("true", "false", "1", "0"):
        raise OptionError(f"--ssl-grpc-use-ssl {options.ssl_grpc_use_ssl}: write true or false.")
    if options.protocol == "grpc":
        if for_https:
            raise OptionError("The --ssl-https-* options need -i http; for gRPC use --ssl-grpc-use-ssl and its files.")
        if use in ("true", "1"):
            return Tls(*grpc)
        if any(grpc):
            raise OptionError("The --ssl-grpc-* files need an encrypted connection: add --ssl-grpc-use-ssl.")
        return None
    if any(grpc) or use not in ("false", "0"):
        raise OptionError("The --ssl-grpc-* options need -i grpc; for HTTP write -u https://HOST:PORT.")
    if not for_https:
        return None
    if not (options.url or "").startswith("https://"):
        raise OptionError("The --ssl-https-* options need an encrypted connection: write -u https://HOST:PORT.")
    ca_file, cert_file, key_file = https
    return Tls(ca_file, cert_file, key_file, verify, verify_host)


def _input_data(options: argparse.Namespace) -> tuple[str, ...]:
    given: Sequence[str] = options.input_data or ()
    if options.zero:
        given = (*given, "zero")
    return tuple(dict.fromkeys(given)) or ("random",)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    # The name may contain colons.
    name, _, sizes = text.rpartition(":")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise OptionError(f"--shape {text} is not NAME:SIZE,SIZE,... with sizes from 1.")
    return name, shape


def _parameter(text: str) -> tuple[str, str | int | bool]:
    name, value, kind = (["", "", *text.rsplit(":", 2)])[-3:]
    try:
        values: dict[str, str | int | bool] = {"string": value}
        if kind == "int":
            values["int"] = int(value)
        if kind == "bool" and value.lower() in ("true", "false"):
            values["bool"] = value.lower() == "true"
        if name:
            return name, values[kind]
    except (KeyError, ValueError):
        pass
    raise OptionError(f"--request-parameter {text} is not NAME:VALUE:TYPE, with the TYPE bool, int or string.")


def _sequences(options: argparse.Namespace) -> Sequences:
    first, _, end = options.sequence_id_range.partition(":")
    try:
        ids = int(first), int(end) if end else None
    except ValueError:
        raise OptionError(f"--sequence-id-range {options.sequence_id_range} is not START or START:END.") from None
    if ids[0] < 1 or (ids[1] is not None and ids[1] <= ids[0]):
        raise OptionError(
            f"--sequence-id-range {options.sequence_id_range}: START must be 1 or more, and END above START."
        )
    if options.sequence_length is not None and options.sequence_length < 1:
        raise OptionError(f"--sequence-length {options.sequence_length}: write 1 or more.")
    if not 0 <= options.sequence_length_variation <= 100:
        raise OptionError(f"--sequence-length-variation {options.sequence_length_variation:g}: write 0 to 100.")
    return Sequences(
        options.sequence_length, options.sequence_length_variation / 100, *ids, at_once=options.num_of_sequences
    )
