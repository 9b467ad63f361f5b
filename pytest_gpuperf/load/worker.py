"""The load generator's own process: ``python -m pytest_gpuperf.load.worker FD PARENT_PID``.

It imports neither numpy nor pytest, keeps the garbage collector off while a window runs, and ends when the process
that started it closes the pipe or dies.
"""

from __future__ import annotations

import gc
import sys
from multiprocessing.connection import Connection
from typing import Any

from pytest_gpuperf.load.http import HttpLoop


def serve(pipe: Connection[Any, Any], parent: int) -> None:
    """Answer requests for windows until the pipe is closed."""
    loop: HttpLoop | None = None
    address: tuple[str, int] | None = None
    wires: dict[int, bytes] = {}
    gc.freeze()
    while True:
        try:
            kind, *arguments = pipe.recv()
        except EOFError:
            break
        if kind == "wire":
            number, wire = arguments
            wires[number] = wire
            continue
        host, port, number, spec = arguments
        if loop is None or address != (host, port):
            if loop is not None:
                loop.close()
            loop, address = HttpLoop(host, port, parent), (host, port)
        gc.disable()
        try:
            recording = loop.window(wires[number], spec)
        finally:
            gc.enable()
        pipe.send(recording)
    if loop is not None:
        loop.close()


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
