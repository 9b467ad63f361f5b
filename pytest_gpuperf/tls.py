"""Settings of TLS for every connection to a server, and what its errors mean."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

from pytest_gpuperf.errors import Argument, OptionError
from pytest_gpuperf.model import Tls

#: X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_WRONG_HOST = (62, 64)
_UNVERIFIED = Argument("verify", False)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of connections with these settings.

    Raises:
        OptionError: A file can't be read, or isn't PEM; the message names it.
    """
    with _naming(ca_file=tls.ca_file):
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not tls.verify_host:
        context.check_hostname = False
    if tls.cert_file:
        # A key that needs a password is an error: OpenSSL would ask for it at the terminal.
        with _naming(cert_file=tls.cert_file, key_file=tls.key_file):
            context.load_cert_chain(tls.cert_file, tls.key_file or None, password="")
    return context


@contextlib.contextmanager
def _naming(**files: str) -> Iterator[None]:
    """Name the files of an error: OpenSSL doesn't."""
    try:
        yield
    except OSError as error:
        first, *others = [Argument(name, path) for name, path in files.items() if path] or [Argument("ca_file")]
        named = [part for other in others for part in (" with ", other)]
        reason = "it holds no certificate in PEM form" if "no certificate" in str(error).lower() else str(error)
        raise OptionError(first, *named, f" can't be used: {reason}.") from error


def tls_advice(error: OSError) -> tuple[str | Argument, ...]:
    """Return OpenSSL's message, with advice for the common errors."""
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_HOST:
            advice = f"{text} (use a host name that the server's certificate contains, or "
            return advice, Argument("verify_host", False), ")"
        return f"{text} (give the certificate authority with ", Argument("ca_file"), ", or ", _UNVERIFIED, ")"
    if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text:
        advice = f"{text} (the server may require a client certificate: give it with "
        return advice, Argument("cert_file"), " and ", Argument("key_file"), ")"
    if isinstance(error, ssl.SSLEOFError) or "WRONG_VERSION_NUMBER" in text or "record layer" in text.lower():
        return (f"{text} (does the server speak TLS on this port?)",)
    return (text,)
