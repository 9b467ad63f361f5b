from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.cli.sweep.flags import IGNORED, REFUSED, add_arguments
from pytest_gpuperf.cli.sweep.options import read
from pytest_gpuperf.cli.sweep.settings import CONCURRENCY, INTERVALS, REQUEST_RATE, SteppedRange, SweepSettings
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Tls
from pytest_gpuperf.targets.kserve import Sequences


def parse(*arguments: str) -> SweepSettings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read(parser.parse_args(["-m", "flower", *arguments]))


def test_the_defaults_are_those_of_perf_client() -> None:
    settings = parse()
    assert settings == SweepSettings("flower")
    assert (settings.urls, settings.protocol, settings.mode, settings.levels) == (
        ("localhost:8000",),
        "http",
        CONCURRENCY,
        SteppedRange(1, 1, 1),
    )
    assert (settings.window_s, settings.tolerance, settings.trials, settings.percentile) == (5.0, 0.10, 10, None)
    assert (settings.input_data, settings.batch_size, settings.output_bytes) == (("random",), 1, 102_400)


def test_a_usual_command_line() -> None:
    line = "-u 127.0.0.1:8000 -i http --concurrency-range 1:100 -f results.csv"
    settings = parse(*line.split())
    assert settings.levels == SteppedRange(1, 100, 1)
    assert (settings.urls, settings.csv) == (("127.0.0.1:8000",), Path("results.csv"))


@pytest.mark.parametrize(
    ("line", "levels", "mode"),
    [
        ("--concurrency-range 4", SteppedRange(4, 4, 1), CONCURRENCY),
        ("--concurrency-range=2:16:2", SteppedRange(2, 16, 2), CONCURRENCY),
        ("--concurrency-range 1:0:4 -l 20", SteppedRange(1, 0, 4), CONCURRENCY),
        ("-t 3", SteppedRange(3, 3, 1), CONCURRENCY),
        # The old flags: -c counts with -d only.
        ("-t 2 -c 8 -d -l 500", SteppedRange(2, 8, 1), CONCURRENCY),
        ("-c 4 -d", SteppedRange(1, 4, 1), CONCURRENCY),
        ("-d -l 500", SteppedRange(1, 0, 1), CONCURRENCY),
        ("-c 4", SteppedRange(1, 1, 1), CONCURRENCY),
        ("--request-rate-range 0.5:2.5:0.5", SteppedRange(0.5, 2.5, 0.5), REQUEST_RATE),
    ],
)
def test_ranges(line: str, levels: SteppedRange, mode: str) -> None:
    settings = parse(*line.split())
    assert (settings.levels, settings.mode) == (levels, mode)


def test_intervals_are_read_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("1000\n3000\n")
    settings = parse("--request-intervals", str(path))
    assert settings.mode == INTERVALS
    assert settings.intervals is not None
    assert settings.intervals.intervals_ns == (1_000_000, 3_000_000)
    assert settings.levels == SteppedRange(500.0, 500.0)


def test_short_and_long_flags_mean_the_same() -> None:
    short = parse("-p700", "-s", "20", "-r", "5", "-l", "30")
    long = "--measurement-interval 700 --stability-percentage 20 --max-trials 5 --latency-threshold 30"
    assert short == parse(*long.split())
    assert (short.window_s, short.tolerance, short.trials, short.threshold_ms) == (0.7, 0.2, 5, 30.0)


def test_all_other_flags_reach_the_settings() -> None:
    line = (
        "-x 2 -b 8 -v --request-rate-range 10 --request-distribution poisson --percentile 95 --seed 7 --workers 2 "
        "--measurement-mode count_windows --measurement-request-count 80 --warmup-request-count 9 --string-length 5 "
        "--shape a:b:3,224,224 --shape c:1 --shared-memory system --output-shared-memory-size 4096 --verbose-csv "
        "--profile-export-file times.json -i grpc --streaming -H Authorization:Bearer:x --deadline 5"
    )
    settings = parse(*line.split(), "-H", "X-Tenant: a b")
    assert (settings.version, settings.batch_size, settings.poisson, settings.percentile) == ("2", 8, True, 95.0)
    assert (settings.window_s, settings.window_requests, settings.warmup_count) == (1.0, 80, 9)
    assert settings.shapes == (("a:b", (3, 224, 224)), ("c", (1,)))
    assert settings.headers == (("Authorization", "Bearer:x"), ("X-Tenant", "a b"))
    assert (settings.protocol, settings.urls, settings.streaming) == ("grpc", ("localhost:8001",), True)
    assert (settings.seed, settings.workers, settings.deadline_s, settings.string_length) == (7, 2, 5.0, 5)
    assert (settings.shared_memory, settings.output_bytes) == ("system", 4096)
    assert (settings.verbose, settings.verbose_csv, settings.profile_export) == (True, True, Path("times.json"))


def test_several_servers_share_the_load() -> None:
    assert parse("-u", "a:8000, b:8000").urls == ("a:8000", "b:8000")


def test_input_data_may_be_given_several_times() -> None:
    assert parse("--input-data", "a.json", "--input-data", "b.json").input_data == ("a.json", "b.json")
    assert parse("-z").input_data == ("zero",)
    assert parse("--data-directory", "here").input_data == ("here",)


def test_flags_of_sequences_and_parameters() -> None:
    assert parse().sequences == Sequences(None, 0.2, 1, None, 4)
    line = "--sequence-length 8 --sequence-length-variation 50 --sequence-id-range 10:20 --num-of-sequences 6"
    assert parse(*line.split()).sequences == Sequences(8, 0.5, 10, 20, 6)
    assert parse("--sequence-id-range", "7").sequences == Sequences(first_id=7)
    parameters = ("max_tokens:256:int", "echo:True:bool", "mode:a:b:string")
    settings = parse(*(part for text in parameters for part in ("--request-parameter", text)))
    assert settings.parameters == {"max_tokens": 256, "echo": True, "mode:a": "b"}
    assert parse("--string-data", "hello").string_data == "hello"


def test_flags_for_columns_that_there_are_not_are_remarked_upon() -> None:
    line = "--collect-metrics --metrics-url http://localhost:8002/metrics --metrics-interval 1000.0"
    settings = parse(*line.split())
    assert [flag for flag, _ in settings.ignored] == list(IGNORED)
    assert replace(settings, ignored=()) == parse()


@pytest.mark.parametrize(
    "line",
    ["-a", "--async", "--sync", "--max-threads 8", "--service-kind triton", "-i HTTP", "--serial-sequences"],
)
def test_flags_without_effect_are_accepted(line: str) -> None:
    assert parse(*line.split()) == parse()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--concurrency-range 0", "START:END:STEP"),
        ("--concurrency-range 1:x", "START:END:STEP"),
        ("--concurrency-range 1:2:0", "only END may be 0"),
        ("--concurrency-range 1.5", "whole numbers"),
        ("--concurrency-range 1:2:3:4", "START:END:STEP"),
        ("--request-rate-range inf", "START:END:STEP"),
        ("--request-rate-range -1", "START:END:STEP"),
        ("--concurrency-range 1 --request-rate-range 5", "different loads"),
        ("--request-intervals /no/such/file", "can't be read"),
        ("-p 0", "--measurement-interval 0"),
        ("-b 0", "-b 0"),
        ("--stability-percentage=-1", "--stability-percentage -1"),
        ("--latency-threshold nan", "--latency-threshold nan"),
        ("--percentile 100", "not between 0 and 100"),
        ("--deadline 0", "--deadline 0"),
        ("-H nonsense", "Name: value"),
        ("--shape x", "NAME:SIZE"),
        ("--shape x:0", "sizes from 1"),
        ("-u a:1,,b:1", "empty address"),
        ("--sequence-length 0", "--sequence-length 0"),
        ("--sequence-length-variation 101", "0 to 100"),
        ("--sequence-id-range 5:5", "END above START"),
        ("--sequence-id-range 0", "START must be 1"),
        ("--sequence-id-range 1:x", "START or START:END"),
        ("--num-of-sequences 0", "--num-of-sequences 0"),
        ("--request-parameter a:1", "NAME:VALUE:TYPE"),
        ("--request-parameter a:x:int", "NAME:VALUE:TYPE"),
        ("--request-parameter a:1:float", "NAME:VALUE:TYPE"),
        ("--ssl-grpc-use-ssl", "https://HOST:PORT"),
        ("--ssl-https-verify-peer 0", "https://HOST:PORT"),
        ("-i grpc --ssl-https-verify-host 0", "--ssl-grpc-use-ssl"),
        ("-i grpc --ssl-grpc-use-ssl maybe", "true or false"),
        ("--ssl-https-ca-certificates-file /no/such/file", "no file /no/such/file"),
    ],
)
def test_wrong_values_say_what_to_write(line: str, part: str) -> None:
    with pytest.raises(OptionError, match=re.escape(part)):
        parse(*line.split())


def test_an_encrypted_server_over_http(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    for file in files.values():
        file.touch()
    settings = parse(
        *("-u", "https://triton:443", "--ssl-https-verify-host", "0"),
        *("--ssl-https-ca-certificates-file", str(files["ca"])),
        *("--ssl-https-client-certificate-file", str(files["cert"])),
        *("--ssl-https-private-key-file", str(files["key"])),
    )
    assert settings.tls == Tls(str(files["ca"]), str(files["cert"]), str(files["key"]), True, False)
    assert parse("-u", "https://triton:443").tls is None


def test_an_encrypted_server_over_grpc(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")]
    for file in files:
        file.touch()
    settings = parse(
        *("-i", "grpc", "--ssl-grpc-use-ssl", "--ssl-grpc-root-certifications-file", str(files[0])),
        *("--ssl-grpc-certificate-chain-file", str(files[1]), "--ssl-grpc-private-key-file", str(files[2])),
    )
    assert settings.tls == Tls(str(files[0]), str(files[1]), str(files[2]))
    assert parse("-i", "grpc", "--ssl-grpc-use-ssl", "false").tls is None


@pytest.mark.parametrize("flag", sorted(REFUSED))
def test_flags_without_a_counterpart_say_what_to_use(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    values, advice = REFUSED[flag]
    with pytest.raises(SystemExit) as status:
        main(["sweep", "-m", "flower", flag, *(["-1"] if values else [])])
    message = capsys.readouterr().err
    assert status.value.code == 2
    assert f"{flag} is perf_client's" in message
    assert advice in message


@pytest.mark.parametrize(
    "line",
    [
        "--service-kind openai",
        "--grpc-compression-algorithm gzip",
        "--ssl-https-private-key-type DER",
        "--ssl-https-client-certificate-type DER",
    ],
)
def test_values_without_a_counterpart_are_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["sweep", "-m", "flower", *line.split()])
    assert status.value.code == 2
    assert line.replace("=", " ").split()[0] in capsys.readouterr().err


#: perf_analyzer's options: those of 2.50, as its --help lists them, and in the last line those that came later.
PERF_CLIENT = """
-m -x --bls-composing-models --model-signature-name --service-kind --endpoint -v --async -a --sync
--measurement-interval -p --concurrency-range --periodic-concurrency-range --request-period --request-rate-range
--request-distribution --request-intervals --serial-sequences --binary-search --num-of-sequences --latency-threshold -l
--max-threads --stability-percentage -s --max-trials -r --percentile --request-count -t -c -d -b --input-data
--shared-memory --output-shared-memory-size --shape --sequence-length --sequence-length-variation --sequence-id-range
--string-length --string-data --input-tensor-format --output-tensor-format -z --data-directory -u -i
--ssl-grpc-use-ssl --ssl-grpc-root-certifications-file --ssl-grpc-private-key-file --ssl-grpc-certificate-chain-file
--ssl-https-verify-peer --ssl-https-verify-host --ssl-https-ca-certificates-file --ssl-https-client-certificate-file
--ssl-https-client-certificate-type --ssl-https-private-key-file --ssl-https-private-key-type -f
--profile-export-file -H --streaming --grpc-compression-algorithm --trace-level --trace-rate --trace-count
--log-frequency --collect-metrics --metrics-url --metrics-interval --measurement-mode --measurement-request-count
--request-parameter --triton-server-directory --model-repository --verbose-csv --version --warmup-request-count
--enable-mpi --trace-file
--fixed-schedule --grpc-method --proto --schedule --session-concurrency
"""


@pytest.mark.parametrize("flag", PERF_CLIENT.split())
def test_every_flag_of_perf_client_is_known(flag: str) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert flag in parser._option_string_actions


def test_the_model_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["sweep"])
    assert status.value.code == 2
    assert "-m" in capsys.readouterr().err


def test_the_page_names_every_flag_without_a_full_counterpart() -> None:
    page = (Path(__file__).parents[4] / "docs/sweep.md").read_text()
    assert not [flag for flag in (*REFUSED, *IGNORED) if f"`{flag}`" not in page]
