"""Corrects a Python backend that was built against NumPy 1 under NumPy 2. Run by Triton's stub, never imported.

The stub reads the size of an element where NumPy 1 had it in the layout of a data type. Under NumPy 2 it finds 0: the
arrays of ``as_numpy`` repeat their first value, and the tensors of ``Tensor`` contain no bytes, both without an error.
DLPack, which numbers take here instead, has no strings: a model that reads or returns them is told so by an exception.
"""

import ctypes
import sys
import types
from typing import Any

import numpy as np

_STRINGS = (
    f"strings can't be read or returned by this server's Python backend under NumPy {np.__version__}; "
    "run: pip install 'numpy<2'"
)


class _Strings(np.ndarray):
    """Strings that the stub has read wrongly; of any shape."""

    def reshape(self, *_shape: Any, **_options: Any) -> Any:
        return self


def _corrected(tensor: Any) -> Any:
    """Correct the stub's class of tensors; return what models make tensors with."""

    stub_as_numpy = tensor.as_numpy

    def as_numpy(self: Any) -> Any:
        if stub_as_numpy(self).dtype == np.object_:
            raise TypeError(_STRINGS)
        values = np.from_dlpack(self)
        return values if values.flags.writeable else values.copy()

    class _Instances(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, tensor)

    class Tensor(metaclass=_Instances):
        from_dlpack = staticmethod(tensor.from_dlpack)

        def __new__(cls, name: str, values: Any) -> Any:
            if values.dtype.kind in "OSU":
                raise TypeError(_STRINGS)
            # Not np.ascontiguousarray, which turns a scalar into a vector.
            capsule = np.require(values, requirements="CW").__dlpack__()
            # The stub renames a used capsule, for which NumPy's destructor would print a traceback each time.
            ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
            return tensor.from_dlpack(name, capsule)

    tensor.as_numpy = as_numpy
    return Tensor


class _Corrected(types.ModuleType):
    """The module of the utilities, into which the stub puts its classes after the import."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "Tensor":
            if hasattr(self, name):
                return  # the stub does it twice
            value = _corrected(value)
        super().__setattr__(name, value)


def correct(module: Any) -> None:
    """Correct the backend's module of utilities, at the end of its import."""
    module.deserialize_bytes_tensor = lambda _encoded: np.empty(0, dtype=np.object_).view(_Strings)
    module.__class__ = _Corrected


correct(sys.modules["triton_python_backend_utils"])
