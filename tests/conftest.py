"""What every test can ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Loaded here and not by its entry point (see pyproject.toml), so that coverage sees its import lines.
pytest_plugins = ["bluejay_ws.pytest_plugin"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the developer's key, URL and spool out of every test, and out of the processes that tests start."""
    for name in [name for name in os.environ if name.startswith("BLUEJAY_")]:
        del os.environ[name]
    os.environ["no_proxy"] = "*"  # every peer is on this machine
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run a test marked ``anyio`` on both event loops; a test that means one of them overrides this."""
    backend: str = request.param
    return backend


@pytest.fixture
def root() -> Path:
    """Return the directory of the repository."""
    return ROOT
