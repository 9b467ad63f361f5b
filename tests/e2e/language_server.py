"""The language server that editors use, asked for what it offers at a place of a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_COMMAND = (sys.executable, "-c", "from basedpyright.langserver import main; main()", "--stdio")


def parameters_at(path: Path, text: str) -> list[str]:
    """Return the parameters that an editor shows at the end of the first occurrence of a text in a file."""
    source = path.read_text()
    before = source[: source.index(text) + len(text)]
    place = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2])}
    document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": source}
    support = {"signatureHelp": {"signatureInformation": {"parameterInformation": {"labelOffsetSupport": False}}}}
    # The server takes its packages from the first Python of the path, which needs not be the one that runs the tests.
    path_variable = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    with subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": path_variable},
    ) as process:
        server = _Server(process)
        folder = path.parent.as_uri()
        server.ask(
            "initialize",
            {"processId": None, "rootUri": folder, "capabilities": {"textDocument": support}},
        )
        server.tell("initialized", {})
        server.tell("textDocument/didOpen", {"textDocument": document})
        answer = server.ask("textDocument/signatureHelp", {"textDocument": {"uri": document["uri"]}, "position": place})
        server.ask("shutdown", None)
        server.tell("exit", None)
    return [parameter["label"] for signature in answer["signatures"] for parameter in signature["parameters"]]


class _Server:
    """JSON-RPC over the pipes of a process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout
        self._asked = 0

    def tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        content = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._input.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
        self._input.flush()

    def ask(self, method: str, params: Any) -> Any:
        """Return the answer; what the server asks meanwhile is answered with nothing."""
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self._asked and "method" not in message:
                return message["result"]
            if "id" in message:
                self._send({"id": message["id"], "result": None})

    def _receive(self) -> dict[str, Any]:
        length = 0
        while line := self._output.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        message: dict[str, Any] = json.loads(self._output.read(length))
        return message
