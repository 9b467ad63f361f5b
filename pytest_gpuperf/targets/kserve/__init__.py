"""Models behind the KServe v2 protocol, over HTTP or gRPC. The only package that imports ``tritonclient``."""

from pytest_gpuperf.targets.kserve.client import KServeClient
from pytest_gpuperf.targets.kserve.endpoint import KServeEndpoint, StartedEndpoint
from pytest_gpuperf.targets.kserve.sequences import Sequences
from pytest_gpuperf.targets.kserve.servers import Servers, open_client, parse_url
from pytest_gpuperf.targets.kserve.settings import RequestSettings

__all__ = [
    "KServeClient",
    "KServeEndpoint",
    "RequestSettings",
    "Sequences",
    "Servers",
    "StartedEndpoint",
    "open_client",
    "parse_url",
]
