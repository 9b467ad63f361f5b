"""Settings of TLS for every connection to a server, and what its errors mean."""

from __future__ import annotations

import ssl

from pytest_gpuperf.model import Tls

#: X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_WRONG_HOST = (62, 64)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of connections with these settings.

    Raises:
        OSError: A file can't be read, or isn't PEM.
    """
    context = ssl.create_default_context(cafile=tls.ca_file or None)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not tls.verify_host:
        context.check_hostname = False
    if tls.cert_file:
        # A key that needs a password is an error: OpenSSL would ask for it at the terminal.
        context.load_cert_chain(tls.cert_file, tls.key_file or None, password="")
    return context


def tls_advice(error: OSError) -> str:
    """Return OpenSSL's message, with advice for the common errors."""
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_HOST:
            return f"{text} (use a host name that the server's certificate contains, or turn verify_host off)"
        return f"{text} (give the certificate authority with ca_file, or turn verify off)"
    if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text:
        return f"{text} (the server may require a client certificate: give it with cert_file and key_file)"
    if isinstance(error, ssl.SSLEOFError) or "WRONG_VERSION_NUMBER" in text or "record layer" in text.lower():
        return f"{text} (does the server speak TLS on this port?)"
    return text
