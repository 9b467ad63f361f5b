"""Errors of ``gpuperf sweep`` name its flags, not the arguments of the Python interface."""

from __future__ import annotations

import argparse
import ast
import json
import pickle
import re
import ssl
from dataclasses import fields
from pathlib import Path

import pytest

import pytest_gpuperf
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.cli.sweep.flags import add_arguments
from pytest_gpuperf.cli.sweep.spelling import flag_of
from pytest_gpuperf.errors import Argument, OptionError, TargetError
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.tls import tls_advice
from tests.unit.load.hostile import Exchange, Server, response
from tests.unit.targets.kserve.fake_servers import HttpTriton

PACKAGE = Path(pytest_gpuperf.__file__).parent
#: What an endpoint of ``gpuperf sweep`` consists of.
MODULES = [
    *(PACKAGE / "targets/kserve").glob("*.py"),
    *(PACKAGE / "targets").glob("input_*.py"),
    PACKAGE / "targets/payload.py",
]
#: Arguments that the command never sets, so that no error about them can come up.
PYTHON_ONLY = {"payloads", "expected", "tolerance", "inputs", "weights", "balance", "bearer_token", "metrics_url"}


def test_every_argument_in_a_message_has_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    named = set()
    for module in MODULES:
        named |= set(re.findall(r'Argument\(\s*"(\w+)"', module.read_text()))
    assert {"shapes", "input_data", "batch_size", "url", "protocol", "end_id"} <= named
    for name in named - PYTHON_ONLY:
        assert flag_of(Argument(name)) in parser._option_string_actions, name


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_no_message_spells_an_argument_in_its_text(module: Path) -> None:
    names = {field.name for field in fields(KServeEndpoint)} - PYTHON_ONLY | {"batch_size"}
    spelled = re.compile(rf"\b({'|'.join(names)})=")
    for call in ast.walk(ast.parse(module.read_text())):
        if isinstance(call, ast.Raise) and call.exc is not None:
            texts = [node.value for node in ast.walk(call.exc) if isinstance(node, ast.Constant)]
            assert not [text for text in texts if isinstance(text, str) and spelled.search(text)]


def test_a_message_has_two_spellings() -> None:
    error = OptionError("Set ", Argument("shapes", {"x": [2, 3], "y": [1]}), " or ", Argument("streaming", True), ".")
    assert str(error) == "Set shapes={'x': [2, 3], 'y': [1]} or streaming=True."
    assert error.spelled(flag_of) == "Set --shape x:2,3 --shape y:1 or --streaming."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert flag_of(Argument("shared_memory", "none")) == "--shared-memory none"
    assert str(TargetError("plain")) == "plain"


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("-u https://h --ssl-https-ca-certificates-file {file}", ["--ssl-https-ca-certificates-file {file}"]),
        (
            "-u https://h --ssl-https-client-certificate-file {file} --ssl-https-private-key-file {file}",
            ["--ssl-https-client-certificate-file {file}", "--ssl-https-private-key-file {file}"],
        ),
        (
            "-i grpc --ssl-grpc-use-ssl --ssl-grpc-root-certifications-file {file}",
            ["--ssl-grpc-root-certifications-file {file}"],
        ),
    ],
)
def test_a_tls_file_that_is_none_is_named_by_its_flag(
    line: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "empty.pem"
    file.touch()
    assert main(["sweep", "-m", "m", *line.format(file=file).split()]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"gpuperf sweep: {' with '.join(flags).format(file=file)} can't be used: ")
    assert "Tls(" not in message


def test_a_refused_certificate_is_advised_in_flags() -> None:
    untrusted = ssl.SSLCertVerificationError("refused")
    untrusted.verify_code = 18
    error = TargetError(*tls_advice(untrusted))
    advice = "give the certificate authority with --ssl-https-ca-certificates-file, or --ssl-https-verify-peer 0"
    assert advice in error.spelled(flag_of)
    assert "with ca_file=, or verify=False" in str(error)


class TracedTriton(HttpTriton):
    """Takes trace settings, or refuses them."""

    def __init__(self, status: str = "200 OK") -> None:
        super().__init__("model_configuration", "trace")
        self.status, self.settings = status, list[object]()

    def __call__(self, exchange: Exchange) -> None:
        if b"/trace/setting" not in exchange.request:
            return super().__call__(exchange)
        self.settings.append(json.loads(exchange.body))
        return exchange.send(response(b'{"error": "no file"}', self.status, "Content-Type: application/json"))


def test_a_model_is_traced_during_the_sweep_only() -> None:
    server = TracedTriton()
    line = ["--request-count", "1", "--trace-level", "TIMESTAMPS", "--trace-level", "TENSORS", "--trace-rate", "1"]
    with Server(server) as served:
        main(["sweep", "-m", "m", "-u", f"127.0.0.1:{served.port}", "--shape", "x:4", *line])
    assert server.settings == [
        {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "1"},
        {"trace_level": None, "trace_rate": None},
    ]


def test_a_server_that_can_not_trace_ends_the_sweep_before_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(TracedTriton("400 Bad Request")) as served:
        line = ["sweep", "-m", "m", "-u", f"127.0.0.1:{served.port}", "--shape", "x:4", "--trace-rate", "1"]
        assert main(line) == 1
    written = capsys.readouterr()
    assert "no file\n--trace-level needs a server that --trace-config gave a trace file." in written.err
    assert "Request concurrency" not in written.out


def test_a_composing_model_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(HttpTriton("model_configuration", shape=(-1, 4))) as server:
        line = ["sweep", "-m", "m", "-u", f"127.0.0.1:{server.port}", "--bls-composing-models", "m:1,gone"]
        assert main(line) == 2
    assert "gpuperf sweep: --bls-composing-models gone: " in capsys.readouterr().err


def test_the_command_speaks_of_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(HttpTriton("model_configuration", shape=(-1, -1, 3))) as server:
        assert main(["sweep", "-m", "m", "-u", f"127.0.0.1:{server.port}", "--request-count", "1"]) == 2
    assert "--shape" in capsys.readouterr().err
    assert main(["sweep", "-m", "m", "-u", "127.0.0.1:1", "--request-count", "1"]) == 1
    assert capsys.readouterr().err.endswith("Start the server, or correct -u.\n")
