"""What a fleet is described by; nothing is started here."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import LEAST_OUTSTANDING, ROUND_ROBIN, Tls
from pytest_gpuperf.targets.fleet import TritonFleet
from pytest_gpuperf.targets.triton import TritonEndpoint


def test_every_server_has_its_device_and_ports() -> None:
    fleet = TritonFleet.create("flower.onnx", ["MIG-a", "MIG-b"], first_port=8000, dynamic_batching=True)
    assert [one.visible for one in fleet.endpoints] == ["MIG-a", "MIG-b"]
    assert [(one.http_port, one.grpc_port) for one in fleet.endpoints] == [(8000, 8001), (8010, 8011)]
    assert all(one.dynamic_batching for one in fleet.endpoints)
    assert (fleet.name, fleet.max_replicas) == ("flower", 2)


def test_fewer_replicas_keep_the_slices_of_the_whole_fleet() -> None:
    """Else one server alone would have the cores of all, and more replicas would bring nothing."""
    fleet = TritonFleet.create("flower.onnx", replicas=4)
    part = fleet.at(1)
    assert part.name == "flower x1"
    assert fleet.members(1)[0].device_label == fleet.slices[0].label
    assert fleet.endpoints[0].cpus == fleet.slices[0].cpus
    assert len(fleet.slices) == 4


def test_an_endpoint_may_be_given() -> None:
    endpoint = TritonEndpoint("flower.onnx", protocol="grpc", instances=2)
    fleet = TritonFleet.create(endpoint, replicas=2, max_batch_size=8)
    assert [(one.protocol, one.instances, one.max_batch_size) for one in fleet.endpoints] == [("grpc", 2, 8)] * 2


@pytest.mark.parametrize(
    ("balancer", "balance", "url"),
    [
        ("round_robin", ROUND_ROBIN, None),
        ("round-robin", ROUND_ROBIN, None),
        ("least_outstanding", LEAST_OUTSTANDING, None),
        ("envoy", None, None),
        ("grpc://lb:50050", None, "grpc://lb:50050"),
    ],
)
def test_balancers(balancer: str, balance: str | None, url: str | None) -> None:
    fleet = TritonFleet.create("flower.onnx", replicas=2, balancer=balancer)
    assert (fleet.balance, fleet.url) == (balance, url)
    servers = fleet.load_servers(["127.0.0.1:1", "127.0.0.1:2"])
    assert [one.label for one in servers.addresses] == (["lb:50050"] if url else ["127.0.0.1:1", "127.0.0.1:2"])
    assert servers.balance == (balance or ROUND_ROBIN)


def test_requests_to_a_running_balancer_have_the_settings_of_the_endpoint() -> None:
    settings: Any = {"headers": {"X-Team": "vision"}, "bearer_token": "secret", "tls": Tls(verify=False)}
    fleet = TritonFleet.create("flower", replicas=0, balancer="https://lb:50050", **settings)
    servers = fleet.load_servers(())
    assert [(address.host, address.port) for address in servers.addresses] == [("lb", 50050)]
    assert dict(servers.headers) == {"x-team": "vision", "authorization": "Bearer secret"}
    assert servers.tls == Tls(verify=False)


def test_it_can_be_pickled() -> None:
    fleet = TritonFleet.create("flower.onnx", ["0", "1"])
    assert fleet.endpoints
    assert pickle.loads(pickle.dumps(fleet)) == fleet


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"balancer": "nginx"}, "balancer='nginx' must be 'round_robin', 'least_outstanding', 'envoy', or the URL"),
        ({"balancer": "ftp://lb:1"}, "is not the URL of a server"),
        ({"balancer": "grpc://lb:1", "protocol": "http"}, "contradicts the protocol"),
        ({"on_loss": "ignore"}, "on_loss='ignore' must be 'fail' or 'continue'"),
        ({"replicas": 0}, "replicas=0 needs balancer="),
        ({"http_port": 8000}, "use first_port=8000"),
        ({"balancer": "envoy", "shared_memory": "system"}, "use 'round_robin' or 'least_outstanding'"),
        ({"devices": ["0"], "replicas": 2}, r"replicas=2 for 1 device\(s\)"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TritonFleet.create("flower.onnx", **arguments)


def test_none_of_ours() -> None:
    fleet = TritonFleet.create("flower", balancer="http://lb:50050", replicas=0, input_data="zero")
    assert (fleet.name, fleet.max_replicas, fleet.slices) == ("flower", 0, ())
    with pytest.raises(OptionError, match="can't start the servers of a KServeEndpoint"):
        TritonFleet(fleet.endpoint, balancer="http://lb:50050")


@pytest.mark.parametrize("replicas", [0, 3, True, 1.0])
def test_parts_that_are_not_there(replicas: int) -> None:
    with pytest.raises(OptionError, match=r"this fleet has 2 server\(s\)"):
        TritonFleet.create("flower.onnx", replicas=2).at(replicas)


def test_it_says_on_which_gpus_its_servers_compute() -> None:
    fleet = TritonFleet.create("m.onnx", ["MIG-a", 3, "MIG-b"])
    assert fleet.device_ids == ("MIG-a", "3", "MIG-b")
    # A test that scales it has all of them from the beginning.
    assert fleet.at(1).device_ids == fleet.device_ids
    assert [member.endpoint.device_ids for member in fleet.members(2)] == [("MIG-a",), ("3",)]
    assert TritonFleet.create("m.onnx", replicas=2).device_ids == ()
    assert TritonEndpoint("m.onnx", visible="GPU-a, GPU-b").device_ids == ("GPU-a", "GPU-b")
    assert TritonEndpoint("m.onnx", visible="").device_ids == TritonEndpoint("m.onnx").device_ids == ()


def test_metrics_that_were_named_are_those_of_the_servers_behind_a_balancer() -> None:
    fleet = TritonFleet.create("m", replicas=0, balancer="http://lb:1", metrics_url="http://gpu:8002/metrics")
    assert fleet.frontend.metrics_url == "http://gpu:8002/metrics"
    assert TritonFleet.create("m.onnx", replicas=1).frontend.metrics_url is None
