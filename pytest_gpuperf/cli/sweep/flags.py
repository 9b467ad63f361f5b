"""The command line of ``gpuperf sweep``: perf_client's, flag by flag.

All flags of perf_client are known. A flag without a counterpart is an error that says what to use instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpuperf import __version__

_TRACE_FILE = "the server sets it: start it with --trace-config triton,file=FILE."
_C_API = "the server is always reached over the network: write its address with -u."
_PERIODIC = "use --request-rate-range or --request-intervals for a load that doesn't wait for answers."
_SERVICE = "only KServe v2 servers (Triton and others) can be measured: write their address with -u."
_SCHEDULE = "write the microseconds between requests into a file for --request-intervals."
_MPI = "for several models at once, start several gpuperf sweep commands together."

#: Flags of perf_client without a counterpart: the number of their values, and what to use instead.
REFUSED: dict[str, tuple[int, str]] = {
    "--enable-mpi": (0, _MPI),
    "--endpoint": (1, _SERVICE),
    "--fixed-schedule": (0, _SCHEDULE),
    "--grpc-method": (1, _SERVICE),
    "--model-repository": (1, _C_API),
    "--model-signature-name": (1, _SERVICE),
    "--periodic-concurrency-range": (1, _PERIODIC),
    "--proto": (1, _SERVICE),
    "--request-period": (1, _PERIODIC),
    "--schedule": (1, _SCHEDULE),
    "--session-concurrency": (1, "conversations can't be measured; for stateful models see --sequence-length."),
    "--record-concurrency": (1, "use --concurrency-range; dependent requests can't be measured."),
    "--trace-file": (1, _TRACE_FILE),
    "--triton-server-directory": (1, _C_API),
}

#: Flags of perf_client of which only one value has a counterpart, and what to do about other values.
_ONLY = {
    "--service-kind": ("triton", _SERVICE),
    "--grpc-compression-algorithm": ("none", "requests are not compressed; leave it out."),
    "--ssl-https-client-certificate-type": ("PEM", "convert the file: openssl x509 -inform der -out FILE.pem."),
    "--ssl-https-private-key-type": ("PEM", "convert the file: openssl pkey -inform der -out FILE.pem."),
}

#: Flags of perf_client that ask for columns that the CSV does not have: the number of their values.
IGNORED = {"--collect-metrics": 0, "--metrics-url": 1, "--metrics-interval": 1}
_IGNORED = "the CSV has no columns of the server's metrics; pytest --gpuperf records the GPU's energy and memory"

_EPILOG = """\
Exit status: 0 all levels are stable; 1 an error or failed requests; 2 a command
line that can't be used; 3 a level is unstable (its results are kept); 130
interrupted (the results so far are printed and written).
"""


class _Refused(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _space: Any, _value: Any, flag: str | None = None) -> None:
        assert flag is not None
        parser.error(f"{flag} is perf_client's and not supported here: {REFUSED[flag][1]}")


class _Only(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _space: Any, value: Any, flag: str | None = None) -> None:
        assert flag is not None
        supported, advice = _ONLY[flag]
        if str(value).lower() != supported.lower():
            parser.error(f"{flag} {value} is perf_client's and not supported here: {advice}")


class _Ignored(argparse.Action):
    def __call__(self, _parser: Any, space: argparse.Namespace, _value: Any, flag: str | None = None) -> None:
        space.ignored = {**getattr(space, "ignored", {}), flag: _IGNORED}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add perf_client's flags, and those of this command only."""
    parser.usage = (
        "gpuperf sweep -m MODEL [-u HOST:PORT] [-i http|grpc]\n"
        "                     [--concurrency-range START:END:STEP] ..."
    )
    parser.description = (
        "Measure throughput and latency of a served model over concurrencies or request\n"
        "rates. Takes perf_client's command line. With --store, compare the sweep with\n"
        "earlier sweeps and store it."
    )
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="version", version=f"gpuperf {__version__}")
    parser.add_argument("-m", dest="model", required=True, metavar="MODEL", help="name of the model")
    text = "version of the model (default: the server's choice)"
    parser.add_argument("-x", dest="model_version", default="", metavar="VERSION", help=text)
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="print every window")
    _add_number(parser, "-b", "N", 1, "batch size of each request (default: 1)", dest="batch_size")
    _add_load(parser.add_argument_group("load"))
    _add_measuring(parser.add_argument_group("measuring"))
    _add_data(parser.add_argument_group("input data"))
    _add_sequences(parser.add_argument_group("sequences", "Requests to a stateful model (sequence_batching)."))
    _add_server(parser.add_argument_group("server"))
    _add_reports(parser.add_argument_group("reports"))
    _add_record(parser.add_argument_group("record", "Store the sweep, and compare it with earlier ones."))
    for flag, (values, _) in REFUSED.items():
        parser.add_argument(flag, action=_Refused, nargs="?" if values else 0, help=argparse.SUPPRESS)
    for flag, values in IGNORED.items():
        parser.add_argument(flag, action=_Ignored, nargs=None if values else 0, dest="_", help=argparse.SUPPRESS)
    parser.set_defaults(ignored={})
    for flag in _ONLY:
        parser.add_argument(flag, action=_Only, help=argparse.SUPPRESS)


def _add_number(group: Any, flags: str, metavar: str, default: float, text: str, **options: Any) -> None:
    """Add a flag whose values have the type of its default."""
    group.add_argument(*flags.split(), type=type(default), default=default, metavar=metavar, help=text, **options)


def _add_choice(group: Any, flag: str, choices: Sequence[str], text: str, **options: Any) -> None:
    """Add a flag with some values, of which the first is the default."""
    group.add_argument(flag, choices=choices, default=choices[0], help=text, **options)


def _add_load(group: Any) -> None:
    add = group.add_argument
    text = "START:END:STEP of the requests kept in flight; an END of 0 needs -l (default: 1)"
    add("--concurrency-range", metavar="S:E:STEP", help=text)
    text = "START:END:STEP of the requests per second, sent without waiting for answers"
    add("--request-rate-range", metavar="S:E:STEP", help=text)
    text = "distribution of the times between requests (default: constant)"
    _add_choice(group, "--request-distribution", ("constant", "poisson"), text)
    text = "file of the microseconds between requests, one number per line"
    add("--request-intervals", type=Path, metavar="FILE", help=text)
    _add_number(group, "-l --latency-threshold", "MS", 0.0, "latency above which the sweep ends")
    add("--binary-search", action="store_true", help="search for the highest load of the range that keeps -l")
    add("-t", dest="old_concurrency", metavar="N", help=argparse.SUPPRESS)
    # perf_client ignores -c without -d.
    add("-c", dest="old_limit", metavar="N", help=argparse.SUPPRESS)
    add("-d", dest="old_search", action="store_true", help=argparse.SUPPRESS)
    add("-a", "--async", "--sync", dest="_no_difference", action="store_true", help="ignored")
    add("--max-threads", dest="_no_threads", metavar="N", help="ignored: the load needs no threads; see --workers")
    _add_number(group, "--workers", "N", 1, "processes that generate the load (default: 1)")
    _add_number(group, "--seed", "N", 0, "seed of random data and intervals (default: 0)")


def _add_measuring(group: Any) -> None:
    _add_number(group, "-p --measurement-interval", "MS", 5000, "length of a window (default: 5000)")
    text = "count_windows: windows of a second or more, until --measurement-request-count requests were sent"
    _add_choice(group, "--measurement-mode", ("time_windows", "count_windows"), text)
    text = "requests in a window of count_windows (default: 50)"
    _add_number(group, "--measurement-request-count", "N", 50, text)
    text = "difference in throughput and latency that the last 3 windows of a stable level may have (default: 10)"
    _add_number(group, "-s --stability-percentage", "PERCENT", 10.0, text)
    _add_number(group, "-r --max-trials", "N", 10, "windows after which a level counts as unstable (default: 10)")
    _add_number(group, "--percentile", "P", -1.0, "percentile of the latency that must be stable (default: the mean)")
    _add_number(group, "--request-count", "N", 0, "send N requests instead of windows")
    _add_number(group, "--warmup-request-count", "N", 0, "requests to send before each level, not counted")
    _add_number(group, "--deadline", "S", 60.0, "longest time to wait for an answer (default: 60)")


def _add_data(group: Any) -> None:
    add = group.add_argument
    text = (
        "random or zero values, a directory, or a JSON file in perf_analyzer's format, which may be repeated (default: "
        "random)"
    )
    add("--input-data", "--data-directory", action="append", metavar="zero|random|PATH", help=text)
    add("-z", dest="zero", action="store_true", help=argparse.SUPPRESS)
    add("--shape", action="append", default=[], metavar="NAME:D,D", help="sizes of the variable dimensions of an input")
    _add_number(group, "--string-length", "N", 128, "length of random strings (default: 128)")
    add("--string-data", metavar="TEXT", help="string to send in place of random ones")
    text = "parameter of all requests; TYPE is bool, int or string; may be repeated"
    add("--request-parameter", action="append", default=[], metavar="NAME:VALUE:TYPE", help=text)
    text = "HTTP: form of the tensors that are sent (default: binary)"
    _add_choice(group, "--input-tensor-format", ("binary", "json"), text)
    text = "HTTP: form of the tensors that are answered (default: binary)"
    _add_choice(group, "--output-tensor-format", ("binary", "json"), text)
    _add_choice(group, "--shared-memory", ("none", "system", "cuda"), "shared memory of tensors (default: none)")
    _add_number(group, "--output-shared-memory-size", "BYTES", 102_400, "space for an output of variable size")


def _add_sequences(group: Any) -> None:
    add = group.add_argument
    text = "requests of a sequence (default: as many as its data have; 20 for random or zero data)"
    add("--sequence-length", type=int, metavar="N", help=text)
    text = "largest deviation of the lengths from --sequence-length (default: 20)"
    _add_number(group, "--sequence-length-variation", "PERCENT", 20.0, text)
    text = "correlation ids to use, END excluded (default: from 1)"
    add("--sequence-id-range", default="1", metavar="START[:END]", help=text)
    text = "sequences at the same time in open loop (default: 4); in closed loop, the concurrency"
    _add_number(group, "--num-of-sequences", "N", 4, text)
    add("--serial-sequences", dest="_no_difference", action="store_true", help=argparse.SUPPRESS)


def _add_server(group: Any) -> None:
    add = group.add_argument
    text = "address of the server, or several with commas (default: localhost:8000; gRPC: localhost:8001)"
    add("-u", dest="url", metavar="HOST:PORT", help=text)
    _add_choice(group, "-i", ("http", "grpc"), "protocol (default: http)", dest="protocol", type=str.lower)
    add("--streaming", action="store_true", help="gRPC: use a stream for each connection")
    text = "models that a Python model calls by itself (BLS), with commas: their times are printed, too"
    add("--bls-composing-models", default="", metavar="MODELS", help=text)
    text = "OFF, TIMESTAMPS or TENSORS: let the server trace the model's requests; may be repeated"
    add("--trace-level", action="append", metavar="LEVEL", help=text)
    add("--trace-rate", metavar="N", help="trace one request of N")
    add("--trace-count", metavar="N", help="number of requests to trace; -1 for all")
    add("--log-frequency", metavar="N", help="traces in a trace file; 0 for all in one")
    text = "header of all requests; may be repeated"
    add("-H", dest="headers", action="append", default=[], metavar="NAME:VALUE", help=text)
    text = "gRPC: encrypt the connection"
    add("--ssl-grpc-use-ssl", nargs="?", const="true", default="false", metavar="BOOL", help=text)
    for flag, text in (
        ("--ssl-grpc-root-certifications-file", "root certificates to trust"),
        ("--ssl-grpc-private-key-file", "key of the client"),
        ("--ssl-grpc-certificate-chain-file", "certificate of the client"),
        ("--ssl-https-ca-certificates-file", "root certificates to trust, for -u https://..."),
        ("--ssl-https-client-certificate-file", "certificate of the client"),
        ("--ssl-https-private-key-file", "key of the client"),
    ):
        add(flag, default="", metavar="FILE", help=text)
    add("--ssl-https-verify-peer", type=int, choices=(0, 1), default=1, help="0: accept every certificate")
    text = "0: accept the certificate of another host"
    add("--ssl-https-verify-host", type=int, choices=(0, 1, 2), default=2, help=text)


def _add_reports(group: Any) -> None:
    add = group.add_argument
    add("-f", dest="csv", type=Path, metavar="FILE", help="write a CSV with perf_client's columns")
    add("--verbose-csv", action="store_true", help="add columns to the CSV, such as the stability of each level")
    add("--profile-export-file", type=Path, metavar="FILE", help="write a JSON file with the times of all requests")


def _add_record(group: Any) -> None:
    add = group.add_argument
    add("--store", default="", metavar="URL", help="store the sweep in this directory or fsspec URL")
    add("--test", default="", metavar="NAME", help="test that the record belongs to (default: name of the model)")
    add("--commit", default="", metavar="SHA", help="commit under test (default: the checked-out one)")
    device = group.add_mutually_exclusive_group().add_argument
    text = "device that the server uses: auto, cpu, an index or a UUID (default: auto, if the server is local)"
    device("--device", default="", metavar="DEVICE", help=text)
    device("--gpu", default="", metavar="NAME", help="GPU of a remote server, for example 'NVIDIA L4'")
