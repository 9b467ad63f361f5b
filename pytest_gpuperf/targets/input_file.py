"""Files of input data: JSON and base64 as perf_analyzer reads them, raw bytes, lines of strings, and ``.npy``."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.model_file import is_lfs_pointer, lfs_error
from pytest_gpuperf.targets.payload import Array, TensorSpec, from_bytes, to_array

_NPY = b"\x93NUMPY"
#: A JSON string, which is kept, or an infinity in the spelling that RapidJSON takes and Python does not.
_STRING_OR_INF = re.compile(r'"(?:[^"\\]|\\.)*"|\bInf\b', re.DOTALL)


def read_json(path: Path) -> Any:
    """Return the document in a JSON file, in which numbers may be ``NaN``, ``Inf``, ``Infinity`` and their negatives.

    Raises:
        OptionError: The file can't be read.
    """
    try:
        content = path.read_bytes()
        if is_lfs_pointer(content):
            raise lfs_error(path)
        try:
            return json.loads(content)
        except ValueError:
            text = content.decode(json.detect_encoding(content))
            return json.loads(_STRING_OR_INF.sub(lambda match: "Infinity" if match[0] == "Inf" else match[0], text))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{path} can't be read as JSON: {error}.") from error


def read_base64(spec: TensorSpec, text: object) -> Array:
    """Return the flat array in base64, which may contain line breaks and lack the padding at its end."""
    if not isinstance(text, str):
        raise OptionError(f"{spec.name!r}: base64 must be a string, not {type(text).__name__}.")
    digits = "".join(text.split()).rstrip("=")
    try:
        return from_bytes(spec.datatype, base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True))
    except (ValueError, binascii.Error) as error:
        raise OptionError(f"{spec.name!r} is not base64-encoded {spec.datatype}: {error}.") from error


def tensor_file(folder: Path, name: str) -> Path | None:
    """Return the file of an input in a directory: ``NAME`` or ``NAME.npy``; None if there is neither."""
    return next((path for path in (folder / name, folder / f"{name}.npy") if path.is_file()), None)


def read_tensor_file(spec: TensorSpec, path: Path) -> Array:
    """Return the array in a file: of ``numpy.save``, with its shape; else flat, of raw bytes or a string per line.

    Raises:
        OptionError: The file can't be read.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_NPY):
            return to_array(spec, np.load(io.BytesIO(content), allow_pickle=False))
        if spec.datatype == "BYTES":
            return to_array(spec, content.splitlines())
        return from_bytes(spec.datatype, content)
    except (OSError, ValueError, EOFError) as error:
        raise OptionError(f"{path} can't be read as {spec.datatype}: {error}.") from error
