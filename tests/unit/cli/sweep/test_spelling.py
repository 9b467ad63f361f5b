"""Errors of ``gpuperf sweep`` name its flags, not the arguments of the Python interface."""

from __future__ import annotations

import argparse
import ast
import pickle
import re
from dataclasses import fields
from pathlib import Path

import pytest

import pytest_gpuperf
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.cli.sweep.flags import add_arguments
from pytest_gpuperf.cli.sweep.spelling import flag_of
from pytest_gpuperf.errors import Argument, OptionError, TargetError
from pytest_gpuperf.targets.kserve import KServeEndpoint
from tests.unit.load.hostile import Server
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


def test_the_command_speaks_of_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(HttpTriton("model_configuration", shape=(-1, -1, 3))) as server:
        assert main(["sweep", "-m", "m", "-u", f"127.0.0.1:{server.port}", "--request-count", "1"]) == 2
    assert "--shape" in capsys.readouterr().err
    assert main(["sweep", "-m", "m", "-u", "127.0.0.1:1", "--request-count", "1"]) == 1
    assert capsys.readouterr().err.endswith("Start the server, or correct -u.\n")
