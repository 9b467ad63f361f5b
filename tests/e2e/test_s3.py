"""A store in a bucket of moto's S3 server: the protocol and the client library are the real ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.store import Store, select_baseline
from tests.e2e.invocations import COMMON, GPUPERF, Run
from tests.unit.factories import KEY, record

BUCKET = "baselines"
SUITE = """
    import os
    import time

    def test_sleep(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.004 * float(os.environ.get("SLOWER", "1"))), name="sleep", window_s=0.1)
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of moto's server, with a bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None
            assert time.monotonic() < end
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def settings(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment variables of a runner."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    # fsspec caches a file system together with its endpoint and credentials.
    filesystem = fsspec.get_filesystem_class("s3")
    filesystem.clear_instance_cache()
    filesystem(skip_instance_cache=True).makedirs(BUCKET, exist_ok=True)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').rstrip(']')}"


def ids(url: str) -> list[str]:
    store = Store(url)
    return [entry.id for folder in store.folders() for entry in store.newest(folder)]


def test_record_gate_accept_pin_list_and_prune(
    run: Run, pytester: pytest.Pytester, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(test_suite=SUITE)
    option = f"--gpuperf-store={url}"
    first = run(option)
    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines(["*NO BASELINE yet: *"])
    slower = run(option, SLOWER="3")
    slower.assert_outcomes(failed=1)
    newest = ids(url)[0]
    slower.stdout.fnmatch_lines([f"*gpuperf baseline accept {newest} --store {url} --reason*"])
    assert main(["baseline", "accept", newest, "--reason", "a larger model", "--store", url]) == 0
    assert main(["baseline", "pin", newest, "--reason", "release", "--store", url]) == 0
    store = Store(url)
    (folder,) = store.folders()
    key = store.read(store.find(newest)).key
    assert folder == store.folder(key)
    assert [record.id for record in select_baseline(store, key).records] == [newest]
    store.write(record(name="later", minute=10**6, key=key))  # far in the future
    capsys.readouterr()
    assert main(["baseline", "list", "--store", url]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert ["accepted, pinned" in row for row in rows] == [False, True, False]
    assert main(["baseline", "prune", "--keep", "1", "--yes", "--store", url]) == 0
    assert "Deleted 1 record of 1 key." in capsys.readouterr().out
    assert len(ids(url)) == 2
    assert not list(pytester.path.glob("s3:*"))


def test_two_runners_at_once(pytester: pytest.Pytester, url: str) -> None:
    pytester.makepyfile(test_suite=SUITE)
    runners = []
    for number in range(2):
        temporary = pytester.path / f"runner{number}"  # two machines: each has its lock of the device
        temporary.mkdir()
        command = [sys.executable, "-m", "pytest", *COMMON, f"--gpuperf-store={url}", "-p", "no:cacheprovider"]
        runners.append(
            subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL)
        )
    assert [runner.wait(120) for runner in runners] == [0, 0]
    assert len(ids(url)) == 2
    listed = subprocess.run([*GPUPERF, "baseline", "list", "--store", url], check=True, capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) == 3


def test_records_of_another_runner_are_read_at_once(url: str) -> None:
    first, second = Store(url), Store(url)
    for number, store in enumerate((first, second, first)):
        store.write(record(name=f"s{number}", minute=number))
        seen = [[entry.id for entry in each.newest(each.folder(KEY))] for each in (first, second)]
        assert seen == [[f"s{index}" for index in reversed(range(number + 1))]] * 2


# What can be wrong


def test_a_missing_bucket_is_not_created(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)
    result = run("--gpuperf-store=s3://baselinse/team")
    assert result.ret == pytest.ExitCode.USAGE_ERROR  # before anything is measured
    result.stderr.fnmatch_lines(
        ["*The store s3://baselinse/team can't be written: The specified bucket does not exist*"]
    )
    with pytest.raises(StoreError, match="can't be written: The specified bucket does not exist"):
        Store("s3://baselinse/team").write(record())
    assert "baselinse" not in fsspec.filesystem("s3").ls("")


@pytest.mark.parametrize("trouble", ["credentials", "refused"])
def test_errors_name_the_bucket_and_no_secret(
    trouble: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if trouble == "credentials":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    message = {
        "credentials": "Unable to locate credentials",
        "refused": 'Could not connect to the endpoint URL: "http://127.0.0.1:1/',
    }[trouble]
    assert main(["baseline", "list", "--store", f"s3://{BUCKET}/team"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gpuperf: The store s3://{BUCKET}/team can't be listed: {message}")
    assert "s3cr3t" not in error
    with pytest.raises(StoreError, match="can't be written: "):
        Store(f"s3://{BUCKET}/team").write(record())
