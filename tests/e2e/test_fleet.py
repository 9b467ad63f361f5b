"""Fleets of real tritonservers, balanced by the load generator and by a real Envoy."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from pytest_gpuperf.errors import MissingExtra, TargetDied, TargetError
from pytest_gpuperf.load import WindowSpec, open_generator
from pytest_gpuperf.measure.policy import WindowRequest
from pytest_gpuperf.measure.window import take_window
from pytest_gpuperf.model import GRPC, HTTP, LoadPoint, Window
from pytest_gpuperf.model.finding import SERVERS_LOST
from pytest_gpuperf.report.findings import words
from pytest_gpuperf.targets.fleet import TritonFleet
from pytest_gpuperf.targets.fleet.envoy import find_envoy
from pytest_gpuperf.targets.fleet.started import Member, StartedFleet, attach_frontend, start_all, stop_all
from tests.e2e.invocations import Start, StartedPytest
from tests.processes import survivors

try:
    find_envoy()
    _missing = ""
except MissingExtra as error:
    _missing = str(error)
needs_envoy = pytest.mark.skipif(bool(_missing), reason=_missing.replace("\n", " "))

BALANCERS = [
    pytest.param("envoy", HTTP, marks=needs_envoy),
    pytest.param("envoy", GRPC, marks=needs_envoy),
    ("round_robin", HTTP),
    ("round_robin", GRPC),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that does nothing: only the serving takes time."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "tiny", tensors[:1], tensors[1:])
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def members(tiny: Path) -> Iterator[list[Member]]:
    """Four started servers, shared by tests that differ in the balancer."""
    four = TritonFleet.create(tiny, replicas=4).members(4)
    start_all(four)
    yield four
    stop_all(four)


def window(fleet: StartedFleet, concurrency: int = 8, window_s: float = 0.4) -> Window:
    workload = fleet.workload(1, concurrency)
    with closing(open_generator(workload)) as generator:
        spec = WindowSpec(concurrency, window_s, lead_in_s=0.05, min_requests=200)
        return take_window(generator, fleet, workload, WindowRequest(LoadPoint(concurrency), spec), name="fleet")[0]


def servers_of(processes: tuple[int, ...]) -> list[psutil.Process]:
    """Return the tritonservers among the processes and their descendants."""
    family = [child for pid in processes for child in psutil.Process(pid).children(recursive=True)]
    return [process for process in family if process.name().startswith("tritonserver")]


def family_of(processes: tuple[int, ...]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in processes]
    return [*roots, *(child for root in roots for child in root.children(recursive=True))]


def lost_servers(measured: Window) -> list[str]:
    """Return the window's findings about lost servers, in words."""
    return [words([finding]) for finding in measured.findings if finding.kind == SERVERS_LOST]


def kill_under_load(victim: psutil.Process, address: str) -> None:
    """Kill the server after it answered more requests."""

    def answered() -> int:
        with urlopen(f"http://{address}/v2/models/tiny/stats", timeout=5) as answer:
            return int(json.load(answer)["model_stats"][0]["inference_stats"]["success"]["count"])

    begin = answered()
    while answered() < begin + 20:
        time.sleep(0.005)
    victim.kill()


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("balancer", "protocol"), BALANCERS)
def test_requests_are_spread_evenly(
    members: list[Member], tiny: Path, balancer: str, protocol: str, count: int
) -> None:
    """The servers count the requests they answered."""
    described = TritonFleet.create(tiny, replicas=4, balancer=balancer, protocol=protocol)
    fleet = attach_frontend(members[:count], described.frontend)
    try:
        fleet.server_times()
        before = dict(fleet.requests_by_server())
        measured = window(fleet)
        after = fleet.requests_by_server()
        facts = fleet.under_test()
    finally:
        fleet.stop_frontend()
    served = [after[server] - before[server] for server in after]
    assert len(served) == count
    assert sum(served) >= measured.requests >= 200
    even = sum(served) / count
    assert all(abs(requests - even) <= max(0.02 * even, 1) for requests in served), served
    assert measured.errors == {}
    assert lost_servers(measured) == []
    assert facts["endpoints"] == count
    assert facts["balancer"] == balancer
    # The window has the counts of each endpoint, whichever balancer spreads the requests.
    shares = [endpoint.requests for endpoint in measured.endpoints]
    assert len(shares) == (count if count > 1 else 0)
    assert all(abs(requests - sum(shares) / count) <= max(0.02 * sum(shares) / count, 1) for requests in shares)
    assert sum(endpoint.throughput for endpoint in measured.endpoints) == pytest.approx(
        measured.throughput if count > 1 else 0, rel=0.02
    )


@needs_envoy
def test_a_running_balancer_is_used(members: list[Member], tiny: Path) -> None:
    ours = attach_frontend(members[:2], TritonFleet.create(tiny, replicas=2, balancer="envoy").frontend)
    try:
        assert ours._envoy is not None
        url = f"grpc://{ours._envoy.address(GRPC).label}"
        theirs = TritonFleet.create("tiny", balancer=url, replicas=0).start()
        try:
            assert window(theirs).requests >= 200
            assert theirs.server_times() is None  # any of them could answer
            assert (theirs.local, theirs.processes) == (False, ())
            theirs.check()
            ours.stop_frontend()
            with pytest.raises(TargetDied, match="no longer accepts requests"):
                theirs.check()
        finally:
            theirs.stop()
        with pytest.raises(TargetError, match=r"does not answer(?s:.*)correct the URL in balancer="):
            TritonFleet.create("tiny", balancer=url, replicas=0).start()
    finally:
        ours.stop_frontend()


def test_each_server_has_its_cores(members: list[Member], tiny: Path) -> None:
    slices = TritonFleet.create(tiny, replicas=4).slices
    kept = [tuple(servers_of(member.server.processes)[0].cpu_affinity()) for member in members]
    assert kept == [part.cpus for part in slices]


@needs_envoy
def test_a_killed_envoy_is_reported(members: list[Member], tiny: Path) -> None:
    fleet = attach_frontend(members[:2], TritonFleet.create(tiny, replicas=2, balancer="envoy").frontend)
    try:
        (envoy,) = psutil.Process(fleet.processes[-1]).children()
        envoy.kill()
        with pytest.raises(
            TargetDied, match=r"At concurrency 8: Envoy (was killed by SIGKILL during the measurement|does not answer)"
        ):
            window(fleet)
    finally:
        fleet.stop_frontend()


@pytest.mark.parametrize(
    ("balancer", "devices"),
    [pytest.param("envoy", ["cpu"] * 3, marks=needs_envoy), ("round_robin", ["MIG-a", "MIG-b", "MIG-c"])],
)
def test_remaining_servers_continue(tiny: Path, balancer: str, devices: list[str]) -> None:
    """Kill one of three servers in the middle of a window, and a second server later."""
    described = TritonFleet.create(tiny, devices, balancer=balancer, on_loss="continue")
    names = [member.label for member in described.members(3)]
    fleet = described.start()
    everything = family_of(fleet.processes)
    try:
        if devices[0] != "cpu":
            seen = [server.environ()["CUDA_VISIBLE_DEVICES"] for server in servers_of(fleet.processes)]
            assert seen == devices
        assert lost_servers(window(fleet)) == []
        first, second, _ = (servers_of((pid,))[0] for pid in fleet.processes[:3])
        killer = threading.Thread(target=kill_under_load, args=(first, fleet.servers[0].address))
        killer.start()
        hurt = window(fleet, window_s=0.8)
        killer.join()
        assert sum(hurt.errors.values()) > 0  # the requests that this server had are lost, and counted as failed
        assert lost_servers(hurt) == [f"1 of 3 servers was lost ({names[0]})"]
        before = dict(fleet.requests_by_server())
        rest = window(fleet)
        assert rest.errors == {}
        assert lost_servers(rest) == [f"1 of 3 servers was lost ({names[0]})"]
        served = [count - before[server] for server, count in fleet.requests_by_server().items()]
        assert served[0] == 0
        assert served[1] == pytest.approx(served[2], rel=0.02, abs=2)
        assert rest.server is not None
        assert rest.server.requests == sum(served)  # the earlier requests of the killed server are not subtracted
        second.kill()
        assert lost_servers(window(fleet)) == [f"2 of 3 servers were lost ({names[0]}, {names[1]})"]
        servers_of(fleet.processes[:1])[0].kill()
        with pytest.raises(TargetDied, match=r"All servers were lost, server 3 of 3"):
            window(fleet)
    finally:
        fleet.stop()
    assert survivors(everything) == []


SUITE = """
    def test_fleet(gpuperf, triton_fleet):
        fleet = triton_fleet({onnx!r}, replicas=3, threads=1, balancer={balancer!r})
        gpuperf.scaling(fleet, replicas=2, concurrency=4, window_s=0.4)
"""


def command_of(process: psutil.Process) -> list[str]:
    """Return the command line of the process; empty if it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def started_servers(started: StartedPytest) -> list[psutil.Process]:
    """Wait until the servers of a started pytest are under load, and return them."""
    for _ in range(600):
        assert started.process.poll() is None, started.output
        family = psutil.Process(started.process.pid).children(recursive=True)
        commands = {process: command_of(process) for process in family}
        servers = [process for process, command in commands.items() if command and command[0].endswith("/tritonserver")]
        if len(servers) == 2 and any("pytest_gpuperf.load.worker" in command for command in commands.values()):
            started.children = family
            return servers
        time.sleep(0.05)
    raise AssertionError(started.output)


def test_a_server_killed_in_mid_sweep(start: Start, pytester: pytest.Pytester, tiny: Path) -> None:
    pytester.makepyfile(test_suite=SUITE.format(onnx=str(tiny), balancer="round_robin"))
    started = start()
    started.wait_for("run 1 of 2 done")
    victim = started_servers(started)[1]
    victim.kill()
    assert started.wait() == pytest.ExitCode.TESTS_FAILED
    assert re.search(
        r"Server [12] of 2 \(cores? .*\) was lost: tritonserver (ended|stopped|was killed by SIGKILL)", started.output
    )
    assert "on_loss='continue' measures the remaining servers." in started.output
    assert "Traceback" not in started.output
    assert "measurement cut short" in started.output
    assert survivors(started.children) == []


@needs_envoy
def test_pytest_killed_leaves_nothing(start: Start, pytester: pytest.Pytester, tiny: Path) -> None:
    pytester.makepyfile(test_suite=SUITE.format(onnx=str(tiny), balancer="envoy"))
    started = start()
    started_servers(started)
    words = [word for process in started.children for word in command_of(process)]
    scratch = [Path(word.partition("=")[2]).parent for word in words if word.startswith("--model-repository=")]
    scratch += [Path(word).parent for word in words if word.endswith("/envoy.json")]
    started.send(signal.SIGKILL)
    started.wait()
    assert survivors(started.children) == []
    assert len(set(scratch)) == 3
    assert not any(path.exists() for path in scratch)


def test_a_server_that_does_not_start(tiny: Path) -> None:
    """The port of the second server is taken: the first is stopped, and the error names the second."""
    with socket.socket() as taken:
        # Below the ephemeral ports, which tests in parallel may take at any time.
        taken.bind(("127.0.0.1", random.randrange(20_000, 30_000)))
        taken.listen()
        port = taken.getsockname()[1]
        before = set(psutil.Process().children(recursive=True))
        fleet = TritonFleet.create(tiny, replicas=2, first_port=port - 10)
        with pytest.raises(
            TargetError, match=rf"Server 2 of 2 \(cores? .*\) did not start: tritonserver can't listen on port {port}"
        ):
            fleet.start()
    assert set(psutil.Process().children(recursive=True)) <= before
