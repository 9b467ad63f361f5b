"""What a workload is sent to: addresses resolved, TLS set up."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load.connection import tls_context
from pytest_gpuperf.model import HTTP, WireWorkload

#: Long enough for one lost SYN.
CONNECT_NS = 2_000_000_000


def service_of(workload: WireWorkload) -> tuple[object, ...]:
    """What two workloads must share to use the same connections."""
    return (tuple((address.host, address.port) for address in workload.addresses), workload.protocol, workload.tls)


def tls_of(workload: WireWorkload) -> ssl.SSLContext | None:
    """The TLS settings of a workload's connections; None where they are plain.

    Raises:
        LoadError: names the files that can't be used.
    """
    if workload.tls is None:
        return None
    try:
        return tls_context(workload.tls, ["http/1.1" if workload.protocol == HTTP else "h2"])
    except OSError as error:
        files = ", ".join(filter(None, (workload.tls.ca_file, workload.tls.cert_file, workload.tls.key_file)))
        raise LoadError(f"TLS can't be set up with {files or 'the defaults'}: {error}") from error


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The address to connect to: of several, the first that takes connections (``localhost`` is often two)."""
    try:
        found = [(info[0], info[4]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise LoadError(f"There is no host {host!r}: {error}. Correct the endpoint's address.") from error
    for family, target in found if len(found) > 1 else ():
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_NS / 1e9)
            probe.connect(target)
            return family, target
    return found[0]
