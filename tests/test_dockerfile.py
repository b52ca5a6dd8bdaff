"""The Dockerfile, as far as it can be checked without an engine; ``.ci/run`` lints it with hadolint too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "Dockerfile").read_text("utf-8")
INSTRUCTIONS = [
    (found[1], re.sub(r"\\\n\s*", "", found[2]).strip())
    for found in re.finditer(r"^([A-Z]+) ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
]
LAST_STAGE = INSTRUCTIONS[max(place for place, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def _last(name: str) -> str:
    return [text for one, text in LAST_STAGE if one == name][-1]


def _environment() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", _last("ENV")))


def test_the_container_does_not_run_as_root() -> None:
    """The user is a number, so that an orchestrator can see that it is not root, and the image creates it."""
    assert int(_last("USER")) > 0
    assert f"--uid {_last('USER')} " in _last("RUN")


def test_the_spool_is_on_a_volume_of_the_user() -> None:
    """What waits for the platform outlives the container, and only the agent can read it."""
    spool = _environment()["BLUEJAY_SPOOL"]
    assert Path(_last("VOLUME")) in Path(spool).parents
    assert f"-o agent -g agent -m 0700 {spool}" in _last("RUN")


def test_what_is_copied_exists() -> None:
    """Every file that the build takes from the tree is there, and .dockerignore lets it through."""
    sources = [
        source
        for name, text in INSTRUCTIONS
        if name == "COPY" and "--from" not in text
        for source in text.split()[:-1]
    ]  # fmt: skip
    assert [source for source in sources if not (ROOT / source).exists()] == []
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"]
    assert [one for one in sources if one.removeprefix("./").partition("/")[0] not in let_through] == []


def test_the_commands_are_complete() -> None:
    """The container has something to run, without a shell in between, and a health check that compiles."""
    interpreter, script, port, host = json.loads(_last("CMD"))
    assert (interpreter, port, host) == ("python", _last("EXPOSE"), "0.0.0.0")
    assert f" {script}" in [text for name, text in LAST_STAGE if name == "COPY"][-1]
    interpreter, option, code = json.loads(_last("HEALTHCHECK").partition("CMD ")[2])
    assert (interpreter, option) == ("python", "-c")
    compile(code, "health check", "exec")


def test_the_linter_has_nothing_to_say() -> None:
    """Hadolint, where it is installed, finds nothing."""
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint has no wheel for this machine")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
