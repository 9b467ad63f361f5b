"""Control calls over gRPC."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import MissingExtra, TargetDied, TargetError
from pytest_gpuperf.model import Address, Tls
from pytest_gpuperf.targets.kserve.client import CONTROL_S, KServeClient

#: The states in which a call ends when nobody answers it.
_NO_ANSWER = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")
_NAME_OVERRIDE = "grpc.ssl_target_name_override"


class GrpcClient(KServeClient):
    """Speaks through ``tritonclient.grpc``."""

    def __init__(self, address: Address, headers: Sequence[tuple[str, str]] = (), tls: Tls | None = None) -> None:
        super().__init__(address.label)
        try:
            from tritonclient.grpc import InferenceServerClient
        except ImportError as error:
            raise MissingExtra("tritonclient[grpc]", "grpc", "ask a server over gRPC") from error

        self._headers = dict(headers)
        # Channels to one address share their connection, and its back-off, with any other channel of this process,
        # unless told not to. A probe must see for itself whether the server still takes connections.
        arguments: list[tuple[str, object]] = [("grpc.use_local_subchannel_pool", 1)]
        credentials = None
        if tls is not None:
            credentials, more = _encryption(address, tls)
            arguments += more
        self._client = InferenceServerClient(self.address, creds=credentials, channel_args=arguments)

    def close(self) -> None:
        self._client.close()

    def ready(self) -> bool:
        try:
            return bool(self._client.is_server_ready(headers=self._headers, client_timeout=CONTROL_S))
        except Exception:  # noqa: BLE001 - whatever it is, it is not ready
            return False

    def model(self, model: str, version: str = "") -> dict[str, Any]:
        # The JSON form of a message leaves empty lists out.
        metadata = {"inputs": [], "outputs": [], **self._ask("get_model_metadata", model, version)}
        if "name" not in metadata:
            raise TargetError(f"What answers at {self.address} is no KServe v2 server.")
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
            if error.status() in _NO_ANSWER:
                raise TargetDied(f"The server at {self.address} does not answer ({error}).") from error
            raise TargetError(f"The server at {self.address} refused {method}{arguments}: {error}") from error
        except Exception as error:  # of a channel that was closed, or metadata that gRPC can't take
            raise TargetError(f"The server at {self.address} can't be asked {method}{arguments}: {error}") from error


def _encryption(address: Address, tls: Tls) -> tuple[Any, list[tuple[str, object]]]:
    """Channel credentials and arguments."""
    import grpc

    arguments: list[tuple[str, object]] = []
    try:
        roots = Path(tls.ca_file).read_bytes() if tls.ca_file else None
        if not (tls.verify and tls.verify_host):
            shown, name = _shown(address, tls)
            roots = roots if tls.verify else shown
            arguments = [(_NAME_OVERRIDE, name)] if name else []
        certificate = Path(tls.cert_file).read_bytes() if tls.cert_file else None
        key = Path(tls.key_file or tls.cert_file).read_bytes() if tls.cert_file else None
    except OSError as error:
        raise TargetError(f"TLS with {address.label} can't be prepared: {error}.\n{tls}") from error
    return grpc.ssl_channel_credentials(roots, key, certificate), arguments


def _shown(address: Address, tls: Tls) -> tuple[bytes, str]:
    """The certificate that the server shows, and the name in it.

    gRPC can't leave out the verification. Trusting just this certificate, under the name that it bears, is the same.
    """
    with socket.create_connection((address.host, address.port), CONTROL_S) as plain:
        blind = ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        if tls.cert_file:
            blind.load_cert_chain(tls.cert_file, tls.key_file or None)
        with blind.wrap_socket(plain, server_hostname=address.host) as encrypted:
            shown = ssl.DER_cert_to_PEM_cert(encrypted.getpeercert(binary_form=True) or b"")
    # Only a context that trusts a certificate says what is in it.
    with socket.create_connection((address.host, address.port), CONTROL_S) as plain:
        seeing = ssl.create_default_context(cadata=shown)
        seeing.check_hostname = False
        seeing.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if tls.cert_file:
            seeing.load_cert_chain(tls.cert_file, tls.key_file or None)
        with seeing.wrap_socket(plain, server_hostname=address.host) as encrypted:
            names = [str(name[1]) for name in (encrypted.getpeercert() or {}).get("subjectAltName", ())]
    return shown.encode(), names[0].replace("*.", "any.") if names else ""
