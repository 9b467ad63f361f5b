"""A docker command for machines without a daemon: it notes its arguments and runs the bundled tritonserver.

A container of it is, as one of docker's, no descendant of the command: killing the command does not end it.
$FAKE_DOCKER is a directory: ``calls`` has a line of JSON per call, ``NAME.pid`` the process of a running container,
``images`` the images that are there, and ``down``, if it exists, what is said instead of an answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_DOCKER"])
#: Options of ``docker run`` whose value is the next argument.
_WITH_VALUE = ("--name", "--gpus", "--entrypoint")


def main(arguments: list[str]) -> int:
    with (STATE / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if (STATE / "down").exists():
        sys.stderr.write((STATE / "down").read_text() + "\n")
        return 1
    command, rest = arguments[0], arguments[1:]
    images = (STATE / "images").read_text().split() if (STATE / "images").exists() else []
    if command == "info":
        sys.stdout.write("27.0.1\n")
    elif command == "image":
        return 0 if rest[-1] in images else 1
    elif command == "pull":
        if "missing" in rest[-1]:
            sys.stderr.write(f"Error response from daemon: manifest for {rest[-1]} not found: manifest unknown" + "\n")
            return 1
        (STATE / "images").write_text("\n".join([*images, rest[-1]]))
    elif command == "run":
        return run(rest)
    elif command == "inspect":
        sys.stdout.write((STATE / f"{rest[-1]}.pid").read_text())
    elif command == "rm":
        return remove(rest[-1])
    return 0


def run(arguments: list[str]) -> int:
    from pytest_gpuperf.targets.triton import bundle
    from pytest_gpuperf.targets.triton.launchers import Launch, LocalLauncher

    options, place = {}, 0
    while arguments[place].startswith("-"):
        if arguments[place] in _WITH_VALUE:
            options[arguments[place]] = arguments[place + 1]
            place += 1
        place += 1
    inside = arguments[place + 1 :]
    if options.get("--entrypoint") == "ls":
        sys.stdout.write("python\nonnxruntime\n" if "full" in arguments[place] else "python\n")
        return 0
    name = options["--name"]
    scratch = STATE / name
    scratch.mkdir()
    launch = Launch(name, inside[1:], scratch, (), None, gpu=False, cpus=None)
    command = LocalLauncher(bundle.require().binary).command(launch)
    # Forked away twice, so that it belongs to nobody, as a container belongs to the daemon.
    starter = (
        "import json, subprocess, sys\n"
        "process = subprocess.Popen(json.loads(sys.argv[1]), start_new_session=True)\n"
        "open(sys.argv[2], 'w').write(f'{process.pid}\\n')\n"
    )
    pid_file = STATE / f"{name}.pid"
    subprocess.run(
        [sys.executable, "-c", starter, json.dumps(list(command.arguments)), str(pid_file)],
        env=dict(command.env),
        check=True,
        start_new_session=True,
    )
    pid = int(pid_file.read_text())
    signal.signal(signal.SIGINT, lambda *_: os.kill(pid, signal.SIGINT))
    while runs(pid):
        time.sleep(0.02)
    pid_file.unlink(missing_ok=True)
    return 0


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def remove(name: str) -> int:
    pid_file = STATE / f"{name}.pid"
    if not pid_file.exists():
        sys.stderr.write(f"Error response from daemon: No such container: {name}" + "\n")
        return 1
    os.killpg(int(pid_file.read_text()), signal.SIGKILL)
    pid_file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
