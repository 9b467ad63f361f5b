"""Run the jobs of a GitHub workflow on this machine: `run:` steps as scripts, known actions by what they do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_TOKEN = re.compile(r"'(?:[^']|'')*'|\d+|&&|\|\||[!=]=|[!()]|[a-z][\w.-]*")
_WORDS = {"&&": " and ", "||": " or ", "!": " not ", "true": "True", "false": "False"}


@dataclass
class Job:
    """A job on a machine.

    Attributes:
        github: The `github` context.
        checkout: Workspace that holds the code.
        temporary: ``runner.temp``, the temporary directory.
        artifacts: Folder of the uploaded artifacts, shared between the jobs of a test.
        path: Folder of programs that take precedence over the machine's.
        variables: Environment variables of the machine.
    """

    github: dict[str, Any]
    checkout: Path
    temporary: Path
    artifacts: Path
    path: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def run(self, workflow: Path, name: str) -> int:
        """Run all steps of a job. Return 0 on success, -1 if its ``if`` skips it."""
        job = yaml.safe_load(workflow.read_text())["jobs"][name]
        if not self._holds(job.get("if"), {}, failed=False):
            return -1
        return self._steps(job["steps"], {})

    def _steps(self, steps: list[dict[str, Any]], inputs: Mapping[str, str]) -> int:
        outputs: dict[str, dict[str, str]] = {}
        failed = 0
        for step in steps:
            context = {"inputs": inputs, "steps": {name: {"outputs": values} for name, values in outputs.items()}}
            if not self._holds(step.get("if"), context, failed=bool(failed)):
                continue
            given = {name: self._text(value, context) for name, value in step.get("with", {}).items()}
            if "run" in step:
                variables = {name: self._text(value, context) for name, value in step.get("env", {}).items()}
                status, outputs[step.get("id", "")] = self._script(self._text(step["run"], context), variables)
            else:
                status = self._uses(step["uses"], given)
            failed = failed or status
        return failed

    def _script(self, script: str, variables: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        output = self.temporary / "output.txt"
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.checkout,
            env={
                "HOME": str(self.temporary),
                "PATH": f"{self.path}{os.pathsep}{os.environ['PATH']}",
                "RUNNER_TEMP": str(self.temporary),
                "GITHUB_OUTPUT": str(output),
                "CI": "true",
                **self.variables,
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        self.log.append(done.stdout)
        pairs = (line.partition("=") for line in output.read_text().splitlines())
        return done.returncode, {name: value for name, _, value in pairs}

    def _uses(self, action: str, given: Mapping[str, str]) -> int:
        if action.startswith("./"):
            composite = yaml.safe_load((self.checkout / action / "action.yml").read_text())
            unknown = given.keys() - composite["inputs"].keys()
            assert not unknown, unknown
            usual = {
                name: self._text(given_input.get("default", ""), {})
                for name, given_input in composite["inputs"].items()
            }
            return self._steps(composite["runs"]["steps"], {**usual, **given})
        kind = action.partition("@")[0]
        if kind == "actions/upload-artifact":
            # The action leaves hidden files out.
            hidden = shutil.ignore_patterns(".*", "output.txt")
            if Path(given["path"]).exists():
                shutil.copytree(given["path"], self.artifacts / given["name"], ignore=hidden, dirs_exist_ok=True)
        elif kind == "actions/download-artifact":
            shutil.copytree(self.artifacts / given["name"], given["path"], symlinks=True)
        else:
            assert kind in ("actions/checkout", "actions/setup-python", "actions/cache"), kind
        return 0

    def _text(self, text: Any, context: Mapping[str, Any]) -> str:
        return _EXPRESSION.sub(lambda match: _shown(self._value(match[1], context, failed=False)), str(text))

    def _holds(self, condition: str | None, context: Mapping[str, Any], *, failed: bool) -> bool:
        asked = condition or "success()"
        if not re.search(r"\b(always|success|failure)\(\)", asked):
            asked = f"success() && ({asked})"
        return bool(self._value(asked, context, failed=failed))

    def _value(self, expression: str, context: Mapping[str, Any], *, failed: bool) -> Any:
        scope = {"github": self.github, "runner": {"temp": str(self.temporary), "arch": "X64"}, **context}
        functions = {"always": lambda: True, "success": lambda: not failed, "failure": lambda: failed}
        assert not _TOKEN.sub("", expression).strip(), expression
        words = []
        for token in _TOKEN.findall(expression):
            word = _WORDS.get(token, token)
            if token[0].isalpha() and token not in functions and token not in _WORDS:
                word = repr(_looked_up(scope, token))
            words.append(word)
        return eval("".join(words), {"__builtins__": {}}, functions)


def _looked_up(scope: Any, name: str) -> Any:
    for part in name.split("."):
        scope = scope.get(part, "") if isinstance(scope, Mapping) else ""
    return scope


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
