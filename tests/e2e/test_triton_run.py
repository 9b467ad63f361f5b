"""``gpuperf triton run`` with the real bundled server."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.targets.triton.ports import Ports
from tests.processes import survivors

CONFIG = """
name: "echo" backend: "python" max_batch_size: 0
input [{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository whose path has a blank."""
    version = tmp_path / "my models" / "echo" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text("class TritonPythonModel:\n    def execute(self, requests):\n        return []\n")
    (version.parent / "config.pbtxt").write_text(CONFIG)
    return tmp_path / "my models"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_serves_until_a_signal_and_leaves_nothing(
    models: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    ports = Ports.free()
    command = [sys.executable, "-m", "pytest_gpuperf.cli.main", "triton", "run", "--model-repository", str(models)]
    command += [f"--http-port={ports.http}", f"--grpc-port={ports.grpc}", f"--metrics-port={ports.metrics}"]
    with (
        (tmp_path / "out").open("wb") as output,
        subprocess.Popen([*command, "--", "--id=mine"], stdout=output, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(f"HTTP    http://127.0.0.1:{ports.http}\n" in line for line in lines)
        assert next(lines).split() == ["gpuperf:", "gRPC", f"127.0.0.1:{ports.grpc}"]
        assert next(lines).split()[-1] == ports.metrics_url
        with urllib.request.urlopen(f"http://127.0.0.1:{ports.http}/v2/models/echo/ready", timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{ports.http}/v2", timeout=10) as answer:
            assert b'"name":"mine"' in answer.read()
        children = psutil.Process(process.pid).children(recursive=True)
        scratch = next(
            Path(word.partition("=")[2]).parent
            for word in children[-1].cmdline() + children[-2].cmdline()
            if word.startswith("--model-repository=")
        )
        process.send_signal(number)
        process.stderr.read()
        assert process.wait(20) == status
    assert survivors(children) == []
    assert not scratch.exists()
    assert not list(Path("/dev/shm").glob(f"gpuperf-{scratch.name.split('-')[-1]}*"))


def test_what_can_not_be_run_says_why(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["triton", "run", "--model-repository"]
    assert main([*run, str(models / "none")]) == 1
    assert "is not a directory" in capsys.readouterr().err
    assert main([*run, str(models), "--", "--http-port=1"]) == 1
    assert "write --http-port before --" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main([*run, str(models), "--http-port", port]) == 1
    assert "choose another port with --http-port" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*run, str(models), "--grpc-port", "x"])
    assert "write a port, 1 to 65535" in capsys.readouterr().err
