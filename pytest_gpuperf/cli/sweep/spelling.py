"""Flags of ``gpuperf sweep`` for the arguments of a target, which error messages name."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_gpuperf.errors import Argument
from pytest_gpuperf.model import GRPC, HTTP

#: Flags whose name differs from that of the argument.
_FLAGS = {
    "batch_size": "-b",
    "composing_models": "--bls-composing-models",
    "end_id": "--sequence-id-range",
    "headers": "-H",
    "model": "-m",
    "parameters": "--request-parameter",
    "protocol": "-i",
    "shapes": "--shape",
    "url": "-u",
    "verify": "--ssl-https-verify-peer",
    "verify_host": "--ssl-https-verify-host",
    "version": "-x",
}
#: Flags of the TLS files, by protocol.
_TLS_FLAGS = {
    HTTP: {
        "ca_file": "--ssl-https-ca-certificates-file",
        "cert_file": "--ssl-https-client-certificate-file",
        "key_file": "--ssl-https-private-key-file",
    },
    GRPC: {
        "ca_file": "--ssl-grpc-root-certifications-file",
        "cert_file": "--ssl-grpc-certificate-chain-file",
        "key_file": "--ssl-grpc-private-key-file",
    },
}


def flag_of(argument: Argument, protocol: str = HTTP) -> str:
    """Return the flag, with its value, that sets an argument of the endpoint."""
    flag = {**_FLAGS, **_TLS_FLAGS[protocol]}.get(argument.name, f"--{argument.name.replace('_', '-')}")
    value = argument.value
    if value is None or value is True:
        return flag
    if isinstance(value, Mapping):
        shapes = (f"{name}:{','.join(map(str, sizes))}" for name, sizes in value.items())
        return " ".join(f"{flag} {shape}" for shape in shapes)
    return f"{flag} {0 if value is False else value}"
