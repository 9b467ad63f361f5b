from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_gpuperf.device import (
    CpuReading,
    find_device,
    others_share,
    read_cpu,
    read_threads,
    steal_share,
    threads_between,
)


class TestCpu:
    def test_its_key_is_the_model_and_the_cores(self) -> None:
        device = find_device("cpu")
        assert device.kind == device.id == "cpu"
        assert device.key == {"device": f"CPU {device.name}", "cores": len(os.sched_getaffinity(0))}
        assert device.name.strip() == device.name != ""

    def test_cores_are_those_that_this_process_may_use(self) -> None:
        code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        code += "from pytest_gpuperf.device import find_device; print(find_device('cpu').key['cores'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "1\n"

    def test_host_and_kernel_are_environment_and_never_key(self) -> None:
        device = find_device("cpu")
        assert device.environment["host"] == os.uname().nodename
        assert device.environment["kernel"] == os.uname().release
        assert not {"host", "kernel"} & device.key.keys()

    def test_is_read_as_a_cpu_without_a_gpu(self) -> None:
        device = find_device("cpu")
        assert device.label == f"CPU {device.name}, {device.key['cores']} cores (no GPU)"

    def test_is_the_same_every_time(self) -> None:
        assert find_device("cpu") == find_device("cpu")


def test_the_package_does_not_import_pynvml_for_the_cpu() -> None:
    code = (
        "import sys; from pytest_gpuperf.device import find_device; find_device('cpu'); print('pynvml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def make_proc(root: Path, cores: list[list[int]], processes: dict[int, tuple[int, str, list[int]]]) -> Path:
    """A /proc of our own: ticks of the cores; of the processes parent, command and the four CPU times."""
    lines = ["cpu  9 9 9 9 9 9 9 9 0 0"]
    lines += [f"cpu{index} {' '.join(map(str, ticks))} 0 0" for index, ticks in enumerate(cores)]
    root.mkdir(exist_ok=True)
    (root / "stat").write_text("\n".join([*lines, "intr 1 2 3", "ctxt 5"]) + "\n")
    for pid, (parent, command, times) in processes.items():
        (root / str(pid)).mkdir(exist_ok=True)
        fields = ["S", str(parent), *["0"] * 9, *map(str, times), *["0"] * 30]
        (root / str(pid) / "stat").write_text(f"{pid} ({command}) {' '.join(fields)}\n")
    (root / "self").mkdir(exist_ok=True)
    return root


class TestOthers:
    tick_s = 1 / os.sysconf("SC_CLK_TCK")

    def test_busy_is_all_but_idle_waiting_and_interrupts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
        cores = [[1, 2, 4, 1000, 1000, 1000, 1000, 8], [10_000] * 8, [16, 0, 0, 0, 0, 0, 0, 32]]
        reading = read_cpu(make_proc(tmp_path / "proc", cores, {}))
        assert reading is not None
        assert reading.busy_s == pytest.approx((1 + 2 + 4 + 8 + 16 + 32) * self.tick_s)
        assert reading.steal_s == pytest.approx((8 + 32) * self.tick_s)
        assert reading.cores == 2

    def test_own_is_this_process_and_all_that_descends_from_it(self, tmp_path: Path) -> None:
        me = os.getpid()
        tree = {
            me: (1, "pytest", [1, 2, 4, 8]),
            me + 1: (me, "worker (a) b)", [16, 0, 0, 0]),
            me + 2: (me + 1, "stub", [0, 32, 0, 0]),
            me + 3: (1, "somebody else", [1000, 0, 0, 0]),
        }
        reading = read_cpu(make_proc(tmp_path / "proc", [[0] * 8], tree))
        assert reading is not None
        assert reading.family_s == pytest.approx(63 * self.tick_s)

    @pytest.mark.parametrize("content", [None, "", "cpu0 garbage 1 2 3 4 5 6 7\n", "\x00\xff"])
    def test_a_kernel_that_shows_nothing_is_no_error(self, tmp_path: Path, content: str | None) -> None:
        if content is not None:
            (tmp_path / "stat").write_text(content)
        reading = read_cpu(tmp_path)
        assert reading is None or reading.busy_s == 0

    @pytest.mark.parametrize(
        ("busy_s", "family_s", "share"),
        [(0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (2.0, 1.0, 0.5), (2.0, 0.0, 1.0), (1.0, 1.5, 0.0), (9.0, 0.0, 1.0)],
    )
    def test_the_share_is_of_all_cores(self, busy_s: float, family_s: float, share: float) -> None:
        before = CpuReading(at_s=10.0, busy_s=100.0, steal_s=7.0, family_s=50.0, cores=2)
        after = CpuReading(11.0, 100.0 + busy_s, 7.0 + busy_s / 4, 50.0 + family_s, 2)
        assert others_share(before, after) == pytest.approx(share)
        assert steal_share(before, after) == pytest.approx(min(busy_s / 8, 1.0))

    def test_no_reading_or_no_time_between_them_tells_nothing(self) -> None:
        reading = CpuReading(10.0, 1.0, 0.0, 1.0, 2)
        assert others_share(None, reading) is None
        assert others_share(reading, None) is None
        assert others_share(reading, reading) is None
        assert steal_share(None, reading) is None
        assert steal_share(reading, reading) is None

    def test_our_own_work_is_not_others(self) -> None:
        begin = read_cpu()
        if begin is None:
            pytest.skip("this kernel shows no CPU times")
        end_s = time.process_time() + 0.2
        while time.process_time() < end_s:
            pass
        burn = "import time\nwhile time.process_time() < 0.2: pass"
        subprocess.run([sys.executable, "-c", burn], check=True)
        end = read_cpu()
        assert end is not None
        assert end.family_s - begin.family_s >= 0.35
        share = others_share(begin, end)
        assert share is not None
        assert 0 <= share <= 1


class TestThreads:
    def test_all_threads_of_the_trees_are_read(self, tmp_path: Path) -> None:
        proc = make_proc(tmp_path / "proc", [[0] * 8], {7: (1, "server", [0] * 4), 8: (7, "stub", [0] * 4)})
        for pid, thread in ((7, 7), (7, 70), (8, 8), (9, 9)):
            task = proc / str(pid) / "task" / str(thread)
            task.mkdir(parents=True)
            (task / "schedstat").write_text(f"{thread}000000000 {pid}000000000 5\n")
        assert read_threads([7], proc) == {7: (7.0, 7.0), 70: (70.0, 7.0), 8: (8.0, 8.0)}
        assert read_threads([], proc) == {}
        (proc / "8/task/8/schedstat").write_text("")
        assert 8 not in read_threads([7], proc)

    def test_threads_begin_and_end_between_two_readings(self) -> None:
        before = {1: (1.0, 0.5), 2: (9.0, 9.0)}
        assert threads_between(before, {1: (1.5, 0.75), 3: (0.25, 0.25)}) == (0.75, 0.5)
        assert threads_between({}, {}) == (0, 0)
