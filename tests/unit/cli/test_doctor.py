from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pytest_gpuperf.cli import doctor
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.device import noise as noise_module
from pytest_gpuperf.device.noise import Noise

CALM = Noise(windows=33, window_s=0.3, spread=0.004, stall_s=0.001, others_share=0.01)


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs these tests is not what they are about."""
    monkeypatch.setattr(noise_module, "measure_noise", lambda _seconds: CALM)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def server(tmp_path: Path) -> str:
    """A tritonserver, as far as one has to be there."""
    path = tmp_path / "bin" / "tritonserver"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    backend = tmp_path / "backends" / "onnxruntime"
    backend.mkdir(parents=True)
    (backend / "libtriton_onnxruntime.so").touch()
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["doctor", "--device", "cpu", *arguments])
    return status, capsys.readouterr().out


def states(text: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(text)["checks"]}


def test_every_section_fits_into_80_columns(capsys: pytest.CaptureFixture[str], server: str) -> None:
    _, text = run(capsys, "--triton", server)
    lines = text.splitlines()
    titles = [line for line in lines if line in ("device", "machine", "noise", "server", "libraries")]
    assert titles == ["device", "machine", "noise", "server", "libraries"]
    assert max(map(len, lines)) <= 80
    assert "fit to measure" in lines[-1]


def test_json_output(capsys: pytest.CaptureFixture[str], server: str) -> None:
    _, text = run(capsys, "--json", "--triton", server)
    document = json.loads(text)
    assert document["gpuperf_doctor"] == 1
    assert document["verdict"] in ("good", "doubtful")
    found = states(text)
    assert "onnxruntime" in found["tritonserver"]["observed"]
    assert found["device"]["observed"].startswith("CPU ")
    assert found["noise floor"]["observed"] == "fixed work varied in time by 0.4% (sd of 33 windows of 0.3 s)"
    assert {check["state"] for check in document["checks"]} <= {"unfit", "doubtful", "good", "unknown"}


def test_the_exit_status_follows_the_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    status, _ = run(capsys, "--triton", server)
    assert status == 0
    noisy = Noise(windows=33, window_s=0.3, spread=0.3, stall_s=0.001, others_share=0.7)
    monkeypatch.setattr(noise_module, "measure_noise", lambda _seconds: noisy)
    status, text = run(capsys, "--triton", server)
    assert status == 1
    assert text.splitlines()[-1].startswith("not fit to measure")


def test_strict_fails_on_doubtful_checks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    uneasy = Noise(windows=33, window_s=0.3, spread=0.05, stall_s=0.001, others_share=0.01)
    monkeypatch.setattr(noise_module, "measure_noise", lambda _seconds: uneasy)
    assert run(capsys, "--triton", server)[0] == 0
    assert run(capsys, "--triton", server, "--strict")[0] == 1


def test_a_named_server_that_is_missing_is_unfit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, text = run(capsys, "--json", "--triton", str(tmp_path / "nowhere"))
    assert status == 1
    assert states(text)["tritonserver"]["state"] == "unfit"
    assert "nowhere" in states(text)["tritonserver"]["observed"]


def test_a_named_gpu_that_is_missing_is_unfit(capsys: pytest.CaptureFixture[str], server: str) -> None:
    if os.path.exists("/dev/nvidia0"):  # noqa: PTH110
        pytest.skip("this machine has a GPU")
    status = main(["doctor", "--device", "7", "--json", "--triton", server])
    found = states(capsys.readouterr().out)
    assert status == 1
    assert found["device"]["state"] == "unfit"
    assert found["device"]["observed"].startswith("--device 7: ")
    assert "with --device cpu" in found["device"]["remedy"]


def test_a_library_that_is_missing_says_what_it_is_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setattr(doctor, "_LIBRARIES", {"numpy": "", "gpuperf-no-such": "nothing: pip install it"})
    _, text = run(capsys, "--json", "--triton", server)
    assert states(text)["gpuperf-no-such"]["state"] == "unknown"
    assert states(text)["gpuperf-no-such"]["remedy"] == "nothing: pip install it"
    assert states(text)["numpy"]["state"] == "good"


@pytest.mark.parametrize("seconds", ["0", "1e9", "nan"])
def test_an_invalid_duration_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--seconds", seconds])
    assert "1 to 600" in capsys.readouterr().err
