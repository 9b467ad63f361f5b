"""Control calls over HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.model import Address, Tls
from pytest_gpuperf.targets.kserve.client import CONTROL_S, KServeClient


class HttpClient(KServeClient):
    """A client that uses ``tritonclient.http``."""

    def __init__(self, address: Address, headers: Sequence[tuple[str, str]] = (), tls: Tls | None = None) -> None:
        super().__init__(address.label)
        from tritonclient.http import InferenceServerClient

        self._headers = dict(headers)
        try:
            options = _encryption(tls) if tls is not None else {}
        except (OSError, ssl.SSLError) as error:
            raise TargetError(f"The TLS files for {self.address} can't be used: {error}.\n{tls}") from error
        self._client = InferenceServerClient(
            self.address, connection_timeout=CONTROL_S, network_timeout=CONTROL_S, **options
        )

    def close(self) -> None:
        self._client.close()

    def ready(self) -> bool:
        try:
            return bool(self._client.is_server_ready(headers=self._headers))
        except Exception:  # noqa: BLE001 - after any error of gevent, ssl, socket or tritonclient it is not ready
            return False

    def _call(self, method: str, *arguments: object) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*arguments, headers=self._headers)
        except InferenceServerException as error:
            raise TargetError(f"The server at {self.address} refused {method}{arguments}: {error}") from error
        except Exception as error:  # geventhttpclient and gevent raise OSErrors and exceptions without a common base
            raise TargetDied(f"The server at {self.address} does not answer ({error}).") from error


def close_thread_hub() -> None:
    """Close gevent's files of the calling thread; no client may be used in it any more."""
    import gevent

    gevent.get_hub().destroy(destroy_loop=True)


def _encryption(tls: Tls) -> dict[str, Any]:
    """Return tritonclient's arguments for TLS.

    The context is created here, since the library supports only some fields of ``Tls`` and reloads the authorities.
    """
    import gevent.ssl

    def context(**_ignored: object) -> Any:
        created = gevent.ssl.create_default_context(cafile=tls.ca_file or None)
        if tls.cert_file:
            created.load_cert_chain(tls.cert_file, tls.key_file or None)
        if insecure:
            created.check_hostname = False
        if not tls.verify:
            created.verify_mode = ssl.CERT_NONE
        return created

    insecure = not (tls.verify and tls.verify_host)
    context()  # raises for an unreadable file here, where the caller can name it
    return {"ssl": True, "ssl_context_factory": context, "insecure": insecure}
