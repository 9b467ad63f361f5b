"""The command line of ``gpuperf sweep``: perf_client's, flag by flag.

Every flag of perf_client is known here. Those that have no counterpart are answered with what to use instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpuperf import __version__
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

_TENSORS = "tensors travel in binary form where the server takes it and as JSON where it doesn't; leave it out."
_SEQUENCES = "sequences of requests to stateful models can't be measured; leave it out for a model without state."
_METRICS = "the server's metrics are not collected; pytest --gpuperf records the GPU's energy and memory by itself."
_TRACE = "set the trace with Triton's own trace API or --trace-config before the sweep."
_C_API = "the server is always reached over its network protocol: give its address with -u."
_PERIODIC = "write --request-rate-range or --request-intervals for a load that doesn't wait for answers."
_SERVICE = "only servers that speak KServe v2 (Triton and others) are measured: give their address with -u."
_MPI = "several models at once are several gpuperf sweep commands, started together."
_SEARCH = "write --concurrency-range START:END with -l, and --binary-search for a search."

#: Flags of perf_client that have no counterpart: how many values they take, and what to do instead.
REFUSED: dict[str, tuple[int, str]] = {
    "-c": (1, _SEARCH),
    "-d": (0, _SEARCH),
    "--bls-composing-models": (1, "the statistics of composing models are not told apart; measure them one by one."),
    "--collect-metrics": (0, _METRICS),
    "--enable-mpi": (0, _MPI),
    "--endpoint": (1, _SERVICE),
    "--log-frequency": (1, _TRACE),
    "--metrics-interval": (1, _METRICS),
    "--metrics-url": (1, _METRICS),
    "--model-repository": (1, _C_API),
    "--model-signature-name": (1, _SERVICE),
    "--num-of-sequences": (1, _SEQUENCES),
    "--periodic-concurrency-range": (1, _PERIODIC),
    "--request-parameter": (1, "requests have no parameters; give what the model needs as an input (--input-data)."),
    "--request-period": (1, _PERIODIC),
    "--schedule": (1, "write the times between the requests, in microseconds, into a file for --request-intervals."),
    "--sequence-id-range": (1, _SEQUENCES),
    "--sequence-length": (1, _SEQUENCES),
    "--sequence-length-variation": (1, _SEQUENCES),
    "--serial-sequences": (0, _SEQUENCES),
    "--record-concurrency": (1, "write --concurrency-range; records of dependent requests can't be measured."),
    "--string-data": (1, 'write the string into a JSON file, {"data": [{"INPUT": ["..."]}]}, for --input-data.'),
    "--trace-count": (1, _TRACE),
    "--trace-file": (1, _TRACE),
    "--trace-level": (1, _TRACE),
    "--trace-rate": (1, _TRACE),
    "--triton-server-directory": (1, _C_API),
}

#: Flags of which only one value has a counterpart, and what to do about the others.
_ONLY = {
    "--service-kind": ("triton", _SERVICE),
    "--grpc-compression-algorithm": ("none", "requests are sent as they are; leave it out."),
    "--input-tensor-format": ("binary", _TENSORS),
    "--output-tensor-format": ("binary", _TENSORS),
    "--ssl-https-client-certificate-type": ("PEM", "convert the file: openssl x509 -inform der -out FILE.pem."),
    "--ssl-https-private-key-type": ("PEM", "convert the file: openssl pkey -inform der -out FILE.pem."),
}

_EPILOG = """\
exit status: 0 all levels stable, 1 an error or failed requests, 2 a command line that can't be used, 3 some level
unstable (it is kept, with its figures), 130 interrupted (what was measured is printed and written).
--async, --sync and --max-threads make no difference: the load generator needs no threads; --workers adds processes.
"""


class _Refused(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _space: Any, _value: Any, flag: str | None = None) -> None:
        assert flag is not None
        parser.error(f"{flag} is perf_client's, and not gpuperf sweep's: {REFUSED[flag][1]}")


class _Only(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _space: Any, value: Any, flag: str | None = None) -> None:
        assert flag is not None
        good, otherwise = _ONLY[flag]
        if str(value).lower() != good.lower():
            parser.error(f"{flag} {value} is perf_client's, and not gpuperf sweep's: {otherwise}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser all of perf_client's flags and ours."""
    parser.usage = "gpuperf sweep -m MODEL [-u HOST:PORT] [-i http|grpc] [--concurrency-range START:END:STEP] ..."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--version", action="version", version=f"gpuperf {__version__}")
    add("-m", dest="model", required=True, metavar="MODEL", help="the model's name")
    add("-x", dest="model_version", default="", metavar="VERSION", help="its version; the server chooses if not given")
    add("-v", dest="verbose", action="count", default=0, help="show every window")
    add("-b", dest="batch_size", type=int, default=1, metavar="N", help="batch size of each request")
    _add_load(parser.add_argument_group("load"))
    _add_measuring(parser.add_argument_group("measuring"))
    _add_data(parser.add_argument_group("input data"))
    _add_server(parser.add_argument_group("server"))
    _add_reports(parser.add_argument_group("reports"))
    _add_record(parser.add_argument_group("record", "Stores the sweep, to compare it with earlier and later ones."))
    for flag, (values, _) in REFUSED.items():
        add(flag, action=_Refused, nargs="?" if values else 0, help=argparse.SUPPRESS)
    for flag in _ONLY:
        add(flag, action=_Only, help=argparse.SUPPRESS)


def _add_load(group: Any) -> None:
    add = group.add_argument
    add("--concurrency-range", metavar="S:E:STEP", help="requests kept in flight; an end of 0 needs -l (default: 1)")
    add("--request-rate-range", metavar="S:E:STEP", help="requests per second on a schedule that waits for no answer")
    add("--request-distribution", default="constant", choices=("constant", "poisson"), help="of the request rate")
    add("--request-intervals", type=Path, metavar="FILE", help="microseconds between requests, one number a line")
    add("-l", "--latency-threshold", type=float, default=0.0, metavar="MS", help="the sweep ends above this latency")
    add("--binary-search", action="store_true", help="look for the highest level of the range within -l")
    add("-t", dest="old_concurrency", metavar="N", help=argparse.SUPPRESS)
    add("-a", "--async", "--sync", dest="_no_difference", action="store_true", help="accepted; makes no difference")
    add("--max-threads", dest="_no_threads", metavar="N", help="accepted; makes no difference, see --workers")
    add("--workers", type=int, default=1, metavar="N", help="processes that make the load (default: 1)")
    add("--seed", type=int, default=0, help="of random data and of poisson intervals (default: 0)")


def _add_measuring(group: Any) -> None:
    add = group.add_argument
    add("-p", "--measurement-interval", type=int, default=5000, metavar="MS", help="a window's length (default: 5000)")
    add(
        "--measurement-mode",
        default="time_windows",
        choices=("time_windows", "count_windows"),
        help="count_windows: a second or more, until --measurement-request-count requests were sent",
    )
    add("--measurement-request-count", type=int, default=50, metavar="N", help="for count_windows (default: 50)")
    add(
        "-s",
        "--stability-percentage",
        type=float,
        default=10.0,
        metavar="PERCENT",
        help="by how much the last 3 windows may differ in throughput and latency (default: 10)",
    )
    add("-r", "--max-trials", type=int, default=10, metavar="N", help="windows after which a level is unstable")
    add("--percentile", type=float, default=-1, metavar="P", help="latency that has to be stable; the mean by default")
    add("--request-count", type=int, default=0, metavar="N", help="N requests instead of windows")
    add("--warmup-request-count", type=int, default=0, metavar="N", help="requests before each level, not counted")
    add("--deadline", type=float, default=60.0, metavar="S", help="an answer later than this is an error (default: 60)")


def _add_data(group: Any) -> None:
    add = group.add_argument
    add(
        "--input-data",
        "--data-directory",
        action="append",
        metavar="zero|random|PATH",
        help="or a directory, or a JSON file (repeatable) in perf_analyzer's format (default: random)",
    )
    add("-z", dest="zero", action="store_true", help=argparse.SUPPRESS)
    add("--shape", action="append", default=[], metavar="NAME:D,D", help="sizes of an input's free dimensions")
    add("--string-length", type=int, default=128, metavar="N", help="of random strings (default: 128)")
    add("--shared-memory", default="none", choices=("none", "system", "cuda"), help="for inputs and outputs")
    add("--output-shared-memory-size", type=int, default=102_400, metavar="BYTES", help="of outputs of unknown size")


def _add_server(group: Any) -> None:
    add = group.add_argument
    add("-u", dest="url", metavar="HOST:PORT", help="or several, with commas (default: localhost:8000, gRPC: 8001)")
    add("-i", dest="protocol", type=str.lower, default="http", choices=("http", "grpc"), help="(default: http)")
    add("--streaming", action="store_true", help="gRPC: one stream per connection")
    add("-H", dest="headers", action="append", default=[], metavar="NAME:VALUE", help="a header of all requests")
    add("--ssl-grpc-use-ssl", nargs="?", const="true", default="false", metavar="BOOL", help="encrypt gRPC")
    for flag, text in (
        ("--ssl-grpc-root-certifications-file", "who may have signed the server's certificate"),
        ("--ssl-grpc-private-key-file", "the client's key"),
        ("--ssl-grpc-certificate-chain-file", "the client's certificate"),
        ("--ssl-https-ca-certificates-file", "who may have signed the server's certificate (-u https://...)"),
        ("--ssl-https-client-certificate-file", "the client's certificate"),
        ("--ssl-https-private-key-file", "the client's key"),
    ):
        add(flag, default="", metavar="FILE", help=text)
    add("--ssl-https-verify-peer", type=int, choices=(0, 1), default=1, help="0: trust every certificate")
    add("--ssl-https-verify-host", type=int, choices=(0, 1, 2), default=2, help="0: trust one for another host")


def _add_reports(group: Any) -> None:
    add = group.add_argument
    add("-f", dest="csv", type=Path, metavar="FILE", help="CSV with perf_client's columns")
    add("--verbose-csv", action="store_true", help="with further columns, among them which levels are unstable")
    add("--profile-export-file", type=Path, metavar="FILE", help="JSON with the times of every request")


def _add_record(group: Any) -> None:
    add = group.add_argument
    add("--store", default="", metavar="URL", help="store the sweep as a record here: a directory or an fsspec URL")
    add("--test", default="", metavar="NAME", help="name of the test that the record belongs to (default: the model)")
    add("--commit", default="", metavar="SHA", help="commit under test (default: the one checked out here)")
    device = group.add_mutually_exclusive_group().add_argument
    device("--device", default="", metavar="DEVICE", help="device that the server uses: auto, cpu, index or UUID")
    device("--gpu", default="", metavar="NAME", help="GPU of a server on another machine, for example 'NVIDIA L4'")


def read(options: argparse.Namespace) -> SweepSettings:
    """The settings that a parsed command line stands for.

    Raises:
        OptionError: it can't be used as written.
    """
    mode, levels, intervals = _load(options)
    _at_least(
        options,
        1,
        "batch_size",
        "measurement_interval",
        "measurement_request_count",
        "max_trials",
        "workers",
        "output_shared_memory_size",
    )
    _at_least(options, 0, "stability_percentage", "latency_threshold", "request_count", "warmup_request_count")
    _at_least(options, 0, "string_length")
    if not options.deadline > 0:
        raise OptionError(f"--deadline {options.deadline:g}: give a number of seconds above 0.")
    if options.percentile != -1 and not 0 < options.percentile < 100:
        raise OptionError(f"--percentile {options.percentile:g} is not between 0 and 100; -1 stands for the mean.")
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
    )


def _record(options: argparse.Namespace) -> RecordSettings | None:
    given = [name for name in ("test", "commit", "device", "gpu") if getattr(options, name)]
    if not options.store:
        if given:
            raise OptionError(f"--{given[0]} describes a stored record: name the store, for example --store .gpuperf.")
        return None
    return RecordSettings(options.store, options.test.strip(), commit_hash(options.commit), options.device, options.gpu)


def _at_least(options: argparse.Namespace, least: float, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if not value >= least:
            flag = "-b" if name == "batch_size" else f"--{name.replace('_', '-')}"
            raise OptionError(f"{flag} {value:g} is less than {least:g}.")


def _load(options: argparse.Namespace) -> tuple[str, SteppedRange, Intervals | None]:
    """Which kind of load, its levels, and the recorded intervals."""
    given = {
        "--concurrency-range": options.concurrency_range,
        "-t": options.old_concurrency,
        "--request-rate-range": options.request_rate_range,
        "--request-intervals": options.request_intervals,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if len(flags) > 1:
        raise OptionError(f"{' and '.join(flags)} are different loads; give one of them.")
    if options.request_intervals is not None:
        try:
            intervals = Intervals.read(options.request_intervals)
        except (OSError, ValueError) as error:
            raise OptionError(f"--request-intervals can't be read: {error}") from error
        return INTERVALS, SteppedRange(intervals.rate, intervals.rate), intervals
    if options.request_rate_range is not None:
        return REQUEST_RATE, _range("--request-rate-range", options.request_rate_range, whole=False), None
    flag = flags[0] if flags else "--concurrency-range"
    return CONCURRENCY, _range(flag, given[flag] or "1", whole=True), None


def _range(flag: str, text: str, *, whole: bool) -> SteppedRange:
    parts = text.split(":")
    try:
        numbers = [int(part) if whole else float(part) for part in parts]
    except ValueError:
        numbers = []
    good = 1 <= len(numbers) <= 3 and numbers[0] > 0 and all(0 <= number < float("inf") for number in numbers)
    if not good or (len(numbers) == 3 and not numbers[2]):
        kind = "whole numbers" if whole else "numbers"
        raise OptionError(f"{flag} {text} is not START:END:STEP: {kind}, of which only END may be 0.")
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
        raise OptionError(f"-H {text!r} is no header; write -H 'Name: value'.")
    return name.strip(), value.strip()


def _tls(options: argparse.Namespace) -> Tls | None:
    """How the server is trusted; None where the connection isn't encrypted, or nothing is said about it."""
    grpc = [options.ssl_grpc_root_certifications_file, options.ssl_grpc_certificate_chain_file]
    grpc.append(options.ssl_grpc_private_key_file)
    https = [options.ssl_https_ca_certificates_file, options.ssl_https_client_certificate_file]
    https.append(options.ssl_https_private_key_file)
    for path in filter(None, (*grpc, *https)):
        if not Path(path).is_file():
            raise OptionError(f"There is no file {path}, which an --ssl option names.")
    verify, verify_host = bool(options.ssl_https_verify_peer), bool(options.ssl_https_verify_host)
    for_https = any(https) or not (verify and verify_host)
    use = str(options.ssl_grpc_use_ssl).lower()
    if use not in ("true", "false", "1", "0"):
        raise OptionError(f"--ssl-grpc-use-ssl {options.ssl_grpc_use_ssl}: write true or false.")
    if options.protocol == "grpc":
        if for_https:
            raise OptionError("The --ssl-https-* options are for -i http; gRPC has --ssl-grpc-use-ssl and its files.")
        if use in ("true", "1"):
            return Tls(*grpc)
        if any(grpc):
            raise OptionError("The --ssl-grpc-* files are for encrypted servers; add --ssl-grpc-use-ssl.")
        return None
    if any(grpc) or use not in ("false", "0"):
        raise OptionError("The --ssl-grpc-* options are for -i grpc; for HTTP write -u https://HOST:PORT.")
    if not for_https:
        return None
    if not (options.url or "").startswith("https://"):
        raise OptionError("The --ssl-https-* options are for encrypted servers; write -u https://HOST:PORT.")
    ca_file, cert_file, key_file = https
    return Tls(ca_file, cert_file, key_file, verify, verify_host)


def _input_data(options: argparse.Namespace) -> tuple[str, ...]:
    given: Sequence[str] = options.input_data or ()
    if options.zero:
        given = (*given, "zero")
    return tuple(dict.fromkeys(given)) or ("random",)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    # The name may contain colons itself.
    name, _, sizes = text.rpartition(":")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise OptionError(f"--shape {text} is not NAME:SIZE,SIZE,..., with sizes from 1 on.")
    return name, shape
