"""A model behind the KServe v2 protocol, over HTTP or gRPC. The only package that imports ``tritonclient``."""

from pytest_gpuperf.targets.kserve.client import KServeClient
from pytest_gpuperf.targets.kserve.endpoint import KServeEndpoint, StartedEndpoint
from pytest_gpuperf.targets.kserve.server import Servers, locate, open_client
from pytest_gpuperf.targets.kserve.settings import RequestSettings

__all__ = [
    "KServeClient",
    "KServeEndpoint",
    "RequestSettings",
    "Servers",
    "StartedEndpoint",
    "locate",
    "open_client",
]
