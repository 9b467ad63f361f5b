"""Control calls over HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.model import Address, Tls
from pytest_gpuperf.targets.kserve.client import CONTROL_S, KServeClient


class HttpClient(KServeClient):
    """Speaks through ``tritonclient.http``."""

    def __init__(self, address: Address, headers: Sequence[tuple[str, str]] = (), tls: Tls | None = None) -> None:
        super().__init__(address.label)
        from tritonclient.http import InferenceServerClient

        self._headers = dict(headers)
        options: dict[str, Any] = {}
        if tls is not None:
            try:
                options = _encryption(tls)
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
        except Exception:  # noqa: BLE001 - gevent, ssl, socket, tritonclient: whatever it is, it is not ready
            return False

    def _call(self, method: str, *arguments: object) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*arguments, headers=self._headers)
        except InferenceServerException as error:
            raise TargetError(f"The server at {self.address} refused {method}{arguments}: {error}") from error
        except Exception as error:  # geventhttpclient and gevent raise their own, and plain OSErrors
            raise TargetDied(f"The server at {self.address} does not answer ({error}).") from error


def leave_thread() -> None:
    """Close the files that gevent has open for this thread, in which no client is used any more."""
    import gevent

    gevent.get_hub().destroy(destroy_loop=True)


def _encryption(tls: Tls) -> dict[str, Any]:
    """What ``tritonclient`` is to be given.

    Its context is made here, since the library sets only part of what ``Tls`` says, and looks up the authorities anew.
    """
    import gevent.ssl

    def context(**_ignored: object) -> Any:
        made = gevent.ssl.create_default_context(cafile=tls.ca_file or None)
        if tls.cert_file:
            made.load_cert_chain(tls.cert_file, tls.key_file or None)
        if not (tls.verify and tls.verify_host):
            made.check_hostname = False
        if not tls.verify:
            made.verify_mode = ssl.CERT_NONE
        return made

    context()  # so that an unreadable file is found here, where it can be named
    lax = not (tls.verify and tls.verify_host)
    return {"ssl": True, "ssl_context_factory": context, "insecure": lax}
