"""Control calls over HTTP."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pytest_gpuperf.bounded_http import NO_ANSWER, BoundedHttp
from pytest_gpuperf.errors import Argument, TargetDied, TargetError
from pytest_gpuperf.limits import CONTROL_BYTES, TooLargeError
from pytest_gpuperf.model import GRPC, Address, Tls
from pytest_gpuperf.targets.kserve.client import CONTROL_S, KServeClient
from pytest_gpuperf.tls import tls_advice, tls_context

#: Status of a path that a server does not have.
_ABSENT = 404
#: How an HTTP/2 server begins, as ``http.client`` shows it.
_HTTP2 = "\\x00\\x00"
Call = tuple[str, str, "dict[str, object] | None"]


class HttpClient(KServeClient):
    """A client that opens a connection for each call: a server may close an idle one at any time."""

    def __init__(self, address: Address, headers: Sequence[tuple[str, str]] = (), tls: Tls | None = None) -> None:
        super().__init__(address.label)
        self._address, self._headers = address, dict(headers)
        self._context = tls_context(tls) if tls is not None else None

    def close(self) -> None:
        """Do nothing: no connection outlives its call."""

    def ready(self) -> bool:
        try:
            return self._ask_server("GET", "health/ready")[0] == HTTPStatus.OK
        except NO_ANSWER:
            return False

    def _call(self, method: str, *arguments: object) -> Any:
        verb, path, document = _CALLS[method](*arguments)
        try:
            status, body = self._ask_server(verb, path, document)
        except ssl.SSLCertVerificationError as error:
            raise TargetError(
                f"The certificate of the server at {self.address} was refused: ", *tls_advice(error), "."
            ) from error
        except TooLargeError as error:
            raise TargetError(f"The server at {self.address} answers {path} with too much: {error}.") from error
        except NO_ANSWER as error:
            raise TargetDied(f"The server at {self.address} does not answer (", *_reason(error), ").") from error
        if status == _ABSENT and method == "get_server_metadata":
            return {}  # some servers describe their models, but not themselves; others fail at the model
        if status != HTTPStatus.OK:
            reason = _refusal(body) or f"HTTP {status}"
            raise TargetError(f"The server at {self.address} refused {method}{arguments}: {reason}")
        return read_document(body, self.address)

    def _ask_server(self, verb: str, path: str, document: dict[str, object] | None = None) -> tuple[int, bytes]:
        address = self._address
        http = BoundedHttp(address.host, address.port, timeout_s=CONTROL_S, limit=CONTROL_BYTES, context=self._context)
        body = json.dumps(document or {}).encode() if verb == "POST" else None
        try:
            return http.ask(verb, f"{address.prefix}/v2{path and '/' + path}", body, self._headers)
        finally:
            http.close()


def read_document(body: bytes, address: str) -> Any:
    """Return the JSON document of an answer; an empty one is an object without fields.

    Raises:
        TargetDied: It is not JSON.
        TargetError: It is nested too deeply.
    """
    try:
        return json.loads(body) if body.strip() else {}
    except ValueError as error:
        raise TargetDied(f"The server at {address} does not answer (its answer is not JSON).") from error
    except RecursionError as error:
        raise TargetError(f"{address} is not a KServe v2 server: its answer is nested too deeply.") from error


def _refusal(body: bytes) -> str:
    """Return what the server says of a refused call; empty if it is not KServe's form, as from a proxy before it."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict) and document.get("error"):
            return str(document["error"])
    return ""


def _reason(error: Exception) -> tuple[str | Argument, ...]:
    if _HTTP2 in repr(error):
        return "it speaks HTTP/2: is that the gRPC port? Use the HTTP port, or ", Argument("protocol", GRPC)
    return tls_advice(error) if isinstance(error, OSError) else (repr(error),)


def _model(name: object, version: object = "") -> str:
    versions = f"/versions/{quote(str(version), safe='')}" if version else ""
    return f"models/{quote(str(name), safe='')}{versions}"


def _memory(kind: str, name: object, action: str) -> str:
    return f"{kind}sharedmemory/region/{quote(str(name), safe='')}/{action}"


#: What each method of ``tritonclient`` sends.
_CALLS: dict[str, Callable[..., Call]] = {
    "get_server_metadata": lambda: ("GET", "", None),
    "get_model_metadata": lambda *model: ("GET", _model(*model), None),
    "get_model_config": lambda *model: ("GET", f"{_model(*model)}/config", None),
    "get_inference_statistics": lambda *model: ("GET", f"{_model(*model) if model else 'models'}/stats", None),
    "get_model_repository_index": lambda: ("POST", "repository/index", None),
    "update_trace_settings": lambda model, settings: ("POST", f"{_model(model)}/trace/setting", settings),
    "register_system_shared_memory": lambda name, key, size: (
        *("POST", _memory("system", name, "register")),
        {"key": key, "offset": 0, "byte_size": size},
    ),
    "register_cuda_shared_memory": lambda name, handle, device, size: (
        *("POST", _memory("cuda", name, "register")),
        {"raw_handle": {"b64": _text(handle)}, "device_id": device, "byte_size": size},
    ),
    "unregister_system_shared_memory": lambda name: ("POST", _memory("system", name, "unregister"), None),
    "unregister_cuda_shared_memory": lambda name: ("POST", _memory("cuda", name, "unregister"), None),
}


def _text(handle: bytes | str) -> str:
    return handle.decode() if isinstance(handle, bytes) else handle
