"""Files and names of models are checked before a server is started for them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_gpuperf.errors import GpuperfError, OptionError, TargetError
from pytest_gpuperf.targets.input_data import InputSettings, make_payloads
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.model_file import check_model_file
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.triton import Step, TritonEndpoint

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
TENSORS = {"input_tensors": {"x": "FP32[8]"}, "output_tensors": {"y": "FP32[8]"}}


class TestFile:
    def test_a_relative_path_says_where_it_was_looked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        message = rf"There is no model at models/m.plan: the path is relative to the working directory, {tmp_path}"
        with pytest.raises(TargetError, match=message):
            check_model_file(Path("models/m.plan"))
        with pytest.raises(TargetError, match=rf"There is no model at {tmp_path}/m.plan\.$"):
            check_model_file(tmp_path / "m.plan")

    def test_below_a_deleted_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(TargetError, match="a working directory that was deleted"):
            check_model_file(Path("m.plan"))

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("m.onnx", POINTER, r"(?s)m.onnx is not the file itself but a pointer of Git LFS.*git lfs pull.*lfs: true"),
            ("m.onnx", b"", "m.onnx is empty"),
            ("m.onnx/below", None, "There is no model at .*below"),
            ("m\0.onnx", None, r"'.*m\\x00.onnx' can't be read"),
            ("m" * 300, None, "can't be read: .*too long"),
        ],
    )
    def test_that_is_no_model(self, name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        else:
            (tmp_path / "m.onnx").touch()
        with pytest.raises(TargetError, match=message):
            check_model_file(tmp_path / name)

    def test_every_kind_of_endpoint_names_a_pointer_before_it_starts(self, tmp_path: Path) -> None:
        for name in ("m.onnx", "m.py", "m.plan"):
            (tmp_path / name).write_bytes(POINTER)
        (tmp_path / "models" / "net" / "1").mkdir(parents=True)
        (tmp_path / "models" / "net" / "1" / "model.plan").write_bytes(POINTER)
        endpoints = [TritonEndpoint(tmp_path / "m.onnx", server="bundled")]
        endpoints.append(TritonEndpoint(tmp_path / "m.py", server="bundled", **TENSORS))  # type: ignore[arg-type]
        endpoints.append(TritonEndpoint(repository=tmp_path / "models", model="net", server="bundled"))
        for endpoint in endpoints:
            with pytest.raises(TargetError, match="is not the file itself but a pointer of Git LFS"):
                endpoint.start()

    def test_input_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        specs = (TensorSpec("x", "FP32", (8,)),)
        Path("data.json").write_bytes(POINTER)
        Path("data").mkdir()
        Path("data/x").write_bytes(POINTER)
        for source in ("data.json", "data"):
            with pytest.raises(TargetError, match="pointer of Git LFS"):
                make_payloads(InputSettings(input_data=source), specs, batch_size=1, batched=False, outputs=())
        with pytest.raises(OptionError, match=f"relative to the working directory, {tmp_path}"):
            make_payloads(InputSettings(input_data="none"), specs, batch_size=1, batched=False, outputs=())


#: Names that escape the repository, are no folder, or mean something to the shell of Triton's Python backend.
HOSTILE = (
    *("", ".", "..", "../../../x", "/tmp/x", "a/b", "a\0b", "a\nb", "\ud800", "x" * 300, " ", "\x1b[31m", "a\u202eb"),
    *('a" backend: "x', "a b", "é", "a\\b", "{}", "$(id)", "model;id", "a'b", "a&b", "a%41", "a?b", "模型"),
)


class TestName:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_names_are_refused_before_anything_is_written(self, name: str) -> None:
        with pytest.raises(OptionError, match="model=") as caught:
            TritonEndpoint("m.py", model=name, **TENSORS)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 300
        assert str(caught.value).isascii() or name in str(caught.value)
        with pytest.raises(OptionError, match="name="):
            TritonEndpoint([Step("m.py", name=name, **TENSORS)])  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["-x", ".hidden", "x" * 255, "CON", "resnet50_fp16-v1.2"])
    def test_names_that_triton_serves_are_accepted(self, name: str) -> None:
        assert TritonEndpoint("m.py", model=name, **TENSORS).name == name  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\0b", "\ud800", "x" * 300])
    def test_a_users_repository_has_folders(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="model="):
            TritonEndpoint(repository=tmp_path, model=name)

    @pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "a\nb", " "])
    def test_a_server_has_no_model_of_an_unprintable_name(self, name: str) -> None:
        with pytest.raises(OptionError, match="model="):
            KServeEndpoint("localhost:8000", name)


class TestRepository:
    def endpoint(self, tmp_path: Path, text: str = "def run(x):\n    return x\n") -> TritonEndpoint:
        (tmp_path / "m.py").write_text(text)
        return TritonEndpoint(tmp_path / "m.py", server="bundled", **TENSORS)  # type: ignore[arg-type]

    def leftovers(self) -> set[str]:
        return {path.name for path in Path(tempfile.gettempdir()).glob("gpuperf-triton-*")}

    def test_a_full_disk_says_so_and_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        before = self.leftovers()
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfile", full)
            with pytest.raises(TargetError, match=r"(?s)can't be written: .*No space left.*MiB are free.*set TMPDIR"):
                self.endpoint(tmp_path).start()
        assert self.leftovers() <= before

    def test_a_path_that_is_not_utf_8(self, tmp_path: Path) -> None:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
        folder.mkdir()
        with pytest.raises(TargetError, match="is not UTF-8: rename it"):
            self.endpoint(folder).start()

    @pytest.mark.parametrize("temporary", ["it's", "größe; id"])
    def test_odd_folders_serve(
        self, temporary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Callable[[TritonEndpoint], None]
    ) -> None:
        (tmp_path / temporary / "models").mkdir(parents=True)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / temporary))
        served(self.endpoint(tmp_path / temporary))


@pytest.fixture
def served() -> Callable[[TritonEndpoint], None]:
    """Starts an endpoint, and has a request answered."""

    def serve(endpoint: TritonEndpoint) -> None:
        started = endpoint.start()
        try:
            assert started.under_test()["model"]
        finally:
            started.stop()

    return serve


def test_a_users_repository_below_a_blank_is_served(tmp_path: Path, served: Callable[[TritonEndpoint], None]) -> None:
    (tmp_path / "m.py").write_text("def run(x):\n    return x\n")
    inner = TritonEndpoint(tmp_path / "m.py", server="bundled", **TENSORS)  # type: ignore[arg-type]
    started = inner.start()
    try:
        (scratch,) = [
            path
            for path in Path(tempfile.gettempdir()).glob("gpuperf-triton-*")
            if (path / "repository" / "m").exists()
        ]
        shutil.copytree(scratch / "repository", tmp_path / "my models")
    finally:
        started.stop()
    served(TritonEndpoint(repository=tmp_path / "my models", model="m", server="bundled"))
    (tmp_path / "my models" / "m").rename(tmp_path / "my models" / "m m")
    with pytest.raises(GpuperfError, match="Python backend can't serve a model named 'm m'"):
        TritonEndpoint(repository=tmp_path / "my models", model="m m", server="bundled").start()
