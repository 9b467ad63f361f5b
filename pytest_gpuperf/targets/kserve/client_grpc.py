"""Control calls over gRPC."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import Argument, TargetDied, TargetError
from pytest_gpuperf.extras import import_extra
from pytest_gpuperf.limits import CONTROL_BYTES
from pytest_gpuperf.model import HTTP, Address, Tls
from pytest_gpuperf.targets.kserve.client import CONTROL_S, KServeClient
from pytest_gpuperf.tls import tls_context

#: States of a call that was not answered.
_NO_ANSWER = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")
#: What gRPC's message means.
_HINTS: dict[str, tuple[str | Argument, ...]] = {
    "http1.x": (" Is that the HTTP port? Use the gRPC port, or ", Argument("protocol", HTTP), "."),
    "WRONG_VERSION_NUMBER": (" Does the server speak TLS on this port?",),
    "Ssl handshake failed": (" Are the TLS settings right?",),
    "Socket closed": (" Is that the gRPC port, and are the TLS settings right?",),
}
_NAME_OVERRIDE = "grpc.ssl_target_name_override"


class GrpcClient(KServeClient):
    """A client that uses ``tritonclient.grpc``."""

    def __init__(self, address: Address, headers: Sequence[tuple[str, str]] = (), tls: Tls | None = None) -> None:
        super().__init__(address.label)
        library = import_extra("tritonclient.grpc", "tritonclient[grpc]", "grpc", "ask a server over gRPC")
        self._headers = dict(headers)
        authority = self._headers.pop("host", "")
        # By default all channels of this process to an address share a connection and its back-off. A probe must
        # find out by itself whether the server still accepts connections.
        arguments: list[tuple[str, object]] = [
            ("grpc.use_local_subchannel_pool", 1),
            # The load goes to the server itself, so the control calls must, too.
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", CONTROL_BYTES),
        ]
        if authority:
            arguments.append(("grpc.default_authority", authority))
        credentials = None
        if tls is not None:
            credentials, tls_arguments = _encryption(address, tls)
            arguments += tls_arguments
        self._client = library.InferenceServerClient(self.address, creds=credentials, channel_args=arguments)

    def close(self) -> None:
        self._client.close()

    def ready(self) -> bool:
        try:
            return bool(self._client.is_server_ready(headers=self._headers, client_timeout=CONTROL_S))
        except Exception:  # noqa: BLE001 - after any error the server is not ready
            return False

    def model(self, model: str, version: str = "") -> dict[str, Any]:
        # The JSON form of a message omits empty lists.
        metadata = {"inputs": [], "outputs": [], **self._metadata(model, version)}
        if "name" not in metadata:
            raise TargetError(f"{self.address} is not a KServe v2 server.")
        return metadata

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        config = self._ask("get_model_config", model, version).get("config", {})
        return dict(config)

    def _call(self, method: str, *arguments: object) -> Any:
        from tritonclient.utils import InferenceServerException

        form = {"as_json": True} if method.startswith("get_") else {}
        try:
            return getattr(self._client, method)(*arguments, headers=self._headers, client_timeout=CONTROL_S, **form)
        except InferenceServerException as error:
            text = str(error)
            if "CERTIFICATE_VERIFY_FAILED" in text:
                raise TargetError(
                    f"The certificate of the server at {self.address} was refused (give its authority with ",
                    Argument("ca_file"),
                    f"): {text}",
                ) from error
            if error.status() in _NO_ANSWER:
                hint = next((hint for sign, hint in _HINTS.items() if sign in text), ())
                raise TargetDied(f"The server at {self.address} does not answer ({text}).", *hint) from error
            raise TargetError(f"The server at {self.address} refused {method}{arguments}: {error}") from error
        except Exception as error:  # from a closed channel, or metadata that gRPC does not accept
            raise TargetError(f"{method}{arguments} can't be sent to {self.address}: {error}") from error


def _encryption(address: Address, tls: Tls) -> tuple[Any, list[tuple[str, object]]]:
    """Return channel credentials and arguments."""
    import grpc

    tls_context(tls)  # checks the files: gRPC's own errors don't name them
    arguments: list[tuple[str, object]] = []
    try:
        roots = Path(tls.ca_file).read_bytes() if tls.ca_file else None
        if not (tls.verify and tls.verify_host):
            certificate_in_use, name = _server_certificate(address, tls)
            roots = roots if tls.verify else certificate_in_use
            arguments = [(_NAME_OVERRIDE, name)] if name else []
        certificate = Path(tls.cert_file).read_bytes() if tls.cert_file else None
        key = Path(tls.key_file or tls.cert_file).read_bytes() if tls.cert_file else None
    except OSError as error:
        raise TargetError(f"TLS with {address.label} can't be set up: {error}.") from error
    return grpc.ssl_channel_credentials(roots, key, certificate), arguments


def _server_certificate(address: Address, tls: Tls) -> tuple[bytes, str]:
    """Return the certificate that the server presents, and the name in it.

    gRPC can't skip verification. Trusting only this certificate, under its own name, is equivalent.
    """
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with _connected(unverified, address, tls) as encrypted:
        certificate = ssl.DER_cert_to_PEM_cert(encrypted.getpeercert(binary_form=True) or b"")
    # Python returns a certificate's content only if the context trusts it.
    trusting = ssl.create_default_context(cadata=certificate)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with _connected(trusting, address, tls) as encrypted:
        names = [str(name[1]) for name in (encrypted.getpeercert() or {}).get("subjectAltName", ())]
    return certificate.encode(), names[0].replace("*.", "any.") if names else ""


@contextlib.contextmanager
def _connected(context: ssl.SSLContext, address: Address, tls: Tls) -> Iterator[ssl.SSLSocket]:
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    with (
        socket.create_connection((address.host, address.port), CONTROL_S) as plain,
        context.wrap_socket(plain, server_hostname=address.host) as encrypted,
    ):
        yield encrypted
