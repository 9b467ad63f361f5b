"""Real models built by TensorRT for RTX in every precision, without a GPU.

    python -m benchmarks.build_engines [--compute-capability 8.9] [--precisions fp32,fp16]

Prints a row for each model and precision: seconds to convert and to build, size of the plan, or the builder's reason.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.targets.tensorrt.builder import build
from pytest_gpuperf.targets.tensorrt.library import Library, open_library
from pytest_gpuperf.targets.tensorrt.onnx_file import OnnxFile
from pytest_gpuperf.targets.tensorrt.precision import PRECISIONS, QUANTIZED, recipe_for
from tests.unit.targets.tensorrt.packages import DETECTOR, MINILM, OPEN_NSFW, RECOGNISER, light_resnet50, member

_TOKENS = ([1], [128], [256])
#: Name, file, batch sizes, sizes of free dimensions.
_MODELS: tuple[tuple[str, Any, tuple[Any, ...], dict[str, Any]], ...] = (
    ("ResNet-50", light_resnet50, (1,), {}),
    ("open-nsfw", lambda: member(OPEN_NSFW), (1, 8, (1, 16, 32)), {}),
    ("text detector", lambda: member(DETECTOR), (1,), {"x": ([3, 320, 320], [3, 640, 640], [3, 960, 960])}),
    ("text recogniser", lambda: member(RECOGNISER), (1, 6), {"x": ([3, 48, 32], [3, 48, 320], [3, 48, 960])}),
    ("MiniLM", lambda: member(MINILM), (1, 8), {"input_ids": _TOKENS, "attention_mask": _TOKENS}),
)


def build_row(library: Library, path: Path, precision: str, capability: str, *, batches: Any, shapes: Any) -> str:
    """Build an engine and return its seconds and size, or the error."""
    steps = recipe_for(precision, always_typed=library.always_typed)
    begin = time.monotonic()
    try:
        file = OnnxFile(path)
        file.check(precision, always_typed=library.always_typed)
        model = file.converted(steps.convert) if steps.convert else path.read_bytes()
        middle = time.monotonic()
        plan = build(
            library, model, path, steps, batch_sizes=batches, shapes=shapes, compute_capability=capability
        ).plan
    except GpuperfError as error:
        return " ".join(str(error).split())[:100]
    megabytes = len(plan.data) / 1e6
    return f"converted {middle - begin:5.1f} s   built {time.monotonic() - middle:5.1f} s   plan {megabytes:6.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compute-capability", default="8.9")
    parser.add_argument("--precisions", default=",".join(name for name in PRECISIONS if name not in QUANTIZED))
    arguments = parser.parse_args()
    library = open_library("tensorrt-rtx", "build engines without a GPU")
    print(f"{library.name} {library.version} for compute capability {arguments.compute_capability}")
    for name, path, batches, shapes in _MODELS:
        for precision in arguments.precisions.split(","):
            row = build_row(library, path(), precision, arguments.compute_capability, batches=batches, shapes=shapes)
            print(f"{name:16} {precision:5} {row}")


if __name__ == "__main__":
    main()
