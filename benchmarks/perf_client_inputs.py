"""Run perf_client and ``gpuperf sweep`` over the same flags and input files, and print which of them takes what.

    python -m benchmarks.perf_client_inputs --perf-client path/to/perf_client      # see docs/sweep.md

Both measure the same models of the bundled tritonserver, mostly with ten requests. The models are Python, so string
inputs need numpy<2. A row in which perf_client takes what ``gpuperf sweep`` refuses must show what to write instead.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import struct
import subprocess
import tempfile
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_gpuperf.cli.main import main as gpuperf
from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

_MODEL = """\
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse([pb.Tensor("OUT", pb.get_input_tensor_by_name(request, "IN").as_numpy())])
            for request in requests
        ]
"""
#: Type, shape and further configuration of each model.
_MODELS = {
    "row": ("FP32", "4", ""),
    "image": ("FP32", "-1, -1, 3", ""),
    "ids": ("INT32", "-1", ""),
    "counter": ("INT32", "1", "sequence_batching { direct {} }"),
    "text": ("STRING", "1", ""),
}
_LONGEST_S = 60.0


@dataclass(frozen=True)
class Input:
    """A command line that both programs get.

    Attributes:
        document: JSON file for ``--input-data``; its text where it is no JSON.
        files: Files of a directory for ``--input-data``, by name.
    """

    label: str
    model: str = "row"
    flags: str = ""
    document: object = None
    files: dict[str, bytes] | None = None


def inputs() -> list[Input]:
    """Return all rows of the table."""

    def data(*entries: object) -> dict[str, object]:
        return {"data": list(entries)}

    row = [1.0, 2.0, 3.0, 4.0]
    encoded = base64.b64encode(struct.pack("<4f", *row)).decode()
    with tempfile.TemporaryFile() as file:
        np.save(file, np.array(row, np.float32))
        file.seek(0)
        npy = file.read()
    rows = [
        Input("flat list", document=data({"IN": row})),
        Input("integers for floats", document=data({"IN": [1, 2, 3, 4]})),
        Input("nested list", "image", document=data({"IN": [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]})),
        Input("list with `shape`", "image", document=data({"IN": {"content": [1.0, 2.0, 3.0], "shape": [1, 1, 3]}})),
        Input("list, the shape by `--shape`", "image", "--shape IN:1,1,3", data({"IN": [1.0, 2.0, 3.0]})),
        Input("base64", document=data({"IN": {"b64": encoded}})),
        Input("base64 with line breaks", document=data({"IN": {"b64": f"{encoded[:8]}\n{encoded[8:]}\n"}})),
        Input("base64 without padding", document=data({"IN": {"b64": encoded.rstrip("=")}})),
        Input("`NaN`, `Infinity`", document='{"data": [{"IN": [NaN, Infinity, -Infinity, 1.0]}]}'),
        Input("`Inf`, `-Inf`", document='{"data": [{"IN": [Inf, -Inf, 1.0, 2.0]}]}'),
        Input("`model` beside the inputs", document=data({"model": "row", "IN": row})),
        Input("an unknown input", document=data({"IN": row, "OTHER": [1.0]})),
        Input("a missing input", document=data({})),
        Input("too many values", document=data({"IN": [*row, 5.0]})),
        Input("fractions for integers", "ids", "--shape IN:2", data({"IN": [1.5, 2]})),
        Input("numbers too large for the type", "ids", "--shape IN:1", data({"IN": [1 << 40]})),
        Input("empty tensor", "ids", document=data({"IN": {"content": [], "shape": [0]}})),
        Input("several streams", document=data([{"IN": row}, {"IN": row}], [{"IN": row}])),
        Input("no entries", document=data()),
        Input("no `data`", document={"inputs": []}),
        Input("not JSON", document="{"),
        Input("validation data", document={**data({"IN": row}), "validation_data": [{"OUT": row}]}),
        Input("directory of raw bytes", files={"IN": struct.pack("<4f", *row)}),
        Input("directory of `.npy`", files={"IN": npy}),
        Input("random, free dimensions", "image"),
        Input("random, `--shape`", "image", "--shape IN:2,2,3"),
        Input("zero", flags="--input-data zero"),
        Input("`-z`", flags="-z"),
        Input("`-b 3`", flags="-b 3"),
        Input("`-b 9` over the limit", flags="-b 9"),
        Input("`--shared-memory system`", flags="--shared-memory system"),
        Input("`--streaming` over HTTP", flags="--streaming"),
        Input("`--input-tensor-format json`", flags="--input-tensor-format json"),
        Input("`--request-parameter`", flags="--request-parameter limit:3:int"),
        Input("`-H`", flags="-H X-Tenant:a"),
        Input("`-t 2`", flags="-t 2"),
        Input("`-c 2 -d -l 500`", flags="-c 2 -d -l 500"),
        Input("`--collect-metrics`", flags="--collect-metrics --metrics-interval 1000 --verbose-csv -f {folder}/f.csv"),
        Input("stateful model", "counter"),
        Input("`--sequence-length 3`", "counter", "--sequence-length 3 --sequence-length-variation 0"),
        Input("`--sequence-id-range 5:9`", "counter", "--sequence-id-range 5:9"),
        Input("`--sequence-id-range 5:6` at concurrency 2", "counter", "--sequence-id-range 5:6 --concurrency-range 2"),
        Input("`--num-of-sequences 2`", "counter", "--num-of-sequences 2 --request-rate-range 50"),
        Input("`--serial-sequences`", "counter", "--serial-sequences --request-rate-range 50"),
        Input("streams to a stateful model", "counter", document=data([{"IN": [1]}, {"IN": [2]}], [{"IN": [3]}])),
        Input("`-b 2` to a stateful model", "counter", "-b 2"),
        Input("an unknown model", "nosuch"),
        Input("an unknown flag", flags="--concurency-range 2"),
    ]
    strings = [
        Input("strings", "text", document=data({"IN": ["a tensor"]})),
        Input("strings, random", "text", "--string-length 10"),
        Input("`--string-data`", "text", "--string-data hello"),
        Input("directory with a line of text", "text", files={"IN": b"a tensor\n"}),
    ]
    return rows + (strings if int(np.__version__.partition(".")[0]) < 2 else [])


def write_repository(folder: Path) -> None:
    """Write the models, and an ensemble that loads them all."""
    steps, tensors = [], []
    for name, (kind, dims, more) in _MODELS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1/model.py").write_text(_MODEL)
        (folder / name / "config.pbtxt").write_text(
            f'backend: "python"\nmax_batch_size: 4\n{more}\ninstance_group [ {{ kind: KIND_CPU }} ]\n'
            f'input [ {{ name: "IN" data_type: TYPE_{kind} dims: [ {dims} ] }} ]\n'
            f'output [ {{ name: "OUT" data_type: TYPE_{kind} dims: [ {dims} ] }} ]\n'
        )
        steps.append(
            f'{{ model_name: "{name}" model_version: -1 input_map {{ key: "IN" value: "{name}_IN" }} '
            f'output_map {{ key: "OUT" value: "{name}_OUT" }} }}'
        )
        tensors.append((name, kind, dims))
    (folder / "all" / "1").mkdir(parents=True)
    sides = []
    for side, tensor in (("input", "IN"), ("output", "OUT")):
        specs = [
            f'{{ name: "{name}_{tensor}" data_type: TYPE_{kind} dims: [ {dims} ] }}' for name, kind, dims in tensors
        ]
        sides.append(f"{side} [ {', '.join(specs)} ]")
    (folder / "all/config.pbtxt").write_text(
        f'platform: "ensemble"\nmax_batch_size: 4\n{chr(10).join(sides)}\n'
        f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}\n"
    )


def outcome(status: int, stdout: str, stderr: str) -> tuple[bool, str]:
    """Return whether a program measured, else its last words."""
    if "infer/sec" in stdout and status in (0, 3):
        return True, ""
    lines = [line.strip() for line in (stderr or stdout).splitlines() if line.strip()]
    return False, next(iter(lines[-1:]), f"(exit status {status})")


def run_perf_client(path: str, line: list[str]) -> tuple[bool, str]:
    try:
        done = subprocess.run([path, *line], capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return False, f"(no end within {_LONGEST_S:g} s)"
    return outcome(done.returncode, done.stdout, done.stderr)


def run_gpuperf(line: list[str]) -> tuple[bool, str]:
    """Run ``gpuperf sweep`` in this process, which is much quicker."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            status = gpuperf(["sweep", *line])
        except SystemExit as end:
            status = int(end.code or 0)
    return outcome(status, stdout.getvalue(), stderr.getvalue())


def compare(row: Input, server: StartedTriton, perf_client: str, folder: Path) -> tuple[tuple[bool, str], ...]:
    """Run both programs."""
    flags = row.flags.format(folder=folder).split()
    if row.files is not None:
        (folder / "inputs").mkdir()
        for name, content in row.files.items():
            (folder / "inputs" / name).write_bytes(content)
        flags += ["--input-data", str(folder / "inputs")]
    if row.document is not None:
        text = row.document if isinstance(row.document, str) else json.dumps(row.document)
        (folder / "data.json").write_text(text)
        flags += ["--input-data", str(folder / "data.json")]
    # perf_client 2.50 takes a number of requests in closed loop only.
    length = "-p 500 -s 999 -r 3" if "--request-rate-range" in flags else "--request-count 10"
    line = ["-m", row.model, "-u", server.address, *length.split(), *flags]
    return run_perf_client(perf_client, line), run_gpuperf(line)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what perf_client and gpuperf sweep take.")
    parser.add_argument("--perf-client", required=True, metavar="PATH")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows with this text in their first cell")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        write_repository(Path(scratch) / "models")
        server = TritonEndpoint(repository=Path(scratch) / "models", model="all").start()
        stack.callback(server.stop)
        print("| input | perf_client | gpuperf sweep |\n|---|---|---|")
        for number, row in enumerate(row for row in inputs() if options.only in row.label):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            cells = [
                "taken" if measured else f"refused: {message.replace(f'{folder}/', '')[:200]}"
                for measured, message in compare(row, server, options.perf_client, folder)
            ]
            print("|", " | ".join(cell.replace("|", "\\|") for cell in (row.label, *cells)), "|", flush=True)


if __name__ == "__main__":
    main()
