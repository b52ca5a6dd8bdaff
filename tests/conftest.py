"""What every test can ask for."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal import charmap
from hypothesis.internal.conjecture import providers

from bluejay_ws.client import Bluejay
from bluejay_ws.testing.platform import FakePlatform
from tests import nursery
from tests.watchdog import Watchdog
from tests.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

# The suite starts a hundred processes: without bytecode it takes a minute longer.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Files are in memory, where there is room: a disk keeps the suite waiting half a minute, most of it to delete what was
# written. TMPDIR names another place, as `.ci/nightly` does.
MEMORY, ROOM = "/dev/shm", 1 << 30
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM and "TMPDIR" not in os.environ:
    tempfile.tempdir = os.environ["TMPDIR"] = MEMORY

# Loaded here and not by its entry point (see pyproject.toml), so that coverage sees its import lines.
pytest_plugins = ["bluejay_ws.pytest_plugin"]

ROOT = Path(__file__).resolve().parent.parent

# The same examples in every run, so that neither a result nor the coverage depends on luck; `.ci/nightly` looks for
# new ones: HYPOTHESIS_PROFILE=nightly.
settings.register_profile(
    "suite", max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "nightly",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "20000")),
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
if "HYPOTHESIS_PROFILE" not in os.environ and hasattr(providers, "_get_local_constants"):
    # Hypothesis reads all our modules for constants to try: that takes seconds, and other examples come out of it where
    # other modules are imported.
    providers._get_local_constants = lambda: providers._local_constants


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Take ``-n`` before xdist does, unless ``--dist`` asks for it."""
    option = config.option
    if (count := getattr(option, "numprocesses", None)) and option.dist == "no" and not option.usepdb:
        option.numprocesses = None
        if nursery.FORKS:
            nursery.begin()  # it imports while tests are collected, and serves all workers
        workers = Workers(count if isinstance(count, int) else os.cpu_count() or 1)
        config.pluginmanager.register(workers, Workers.__name__)


def pytest_configure(config: pytest.Config) -> None:
    """Have one thread keep the time of all tests."""
    config.pluginmanager.register(Watchdog())


def pytest_collectstart() -> None:
    """Collect tests without the garbage collector: little of what they make is garbage."""
    gc.disable()


LATE = ("psycopg", "uvicorn.protocols.websockets.auto", "hypercorn.asyncio", "pydantic.v1")
"""What is imported late, and would be in each worker."""


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what collecting has made out of the garbage collector's sight: each full collection took half a second."""
    if session.config.pluginmanager.has_plugin(Workers.__name__):
        for name in LATE:
            with contextlib.suppress(ImportError):  # not installed
                import_module(name)
        charmap.charmap()  # in a fresh checkout this takes two seconds
    gc.freeze()
    gc.set_threshold(50_000)  # little of what tests make is garbage that only the collector finds
    gc.enable()


MEASURE_CHILDREN = "COVERAGE_PROCESS_CONFIG"
"""With this variable Python starts with coverage. That takes a tenth of a second, so most processes go without."""
_how_to_measure: list[str | None] = []


@pytest.fixture
def measured_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the coverage of the processes of this test too: they run lines that nothing else does."""
    if config := _how_to_measure[0]:
        monkeypatch.setenv(MEASURE_CHILDREN, config)


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the developer's key, URL and spool out of every test, and out of the processes that tests start."""
    for name in [name for name in os.environ if name.startswith("BLUEJAY_")]:
        del os.environ[name]
    _how_to_measure.append(os.environ.pop(MEASURE_CHILDREN, None))
    os.environ["no_proxy"] = "*"  # every peer is on this machine
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job is deaf to Ctrl-C, and so would be every process that a test interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
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


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return the directory of the client's spool; it is made when the client is."""
    return tmp_path / "spool"


@pytest.fixture
def platform() -> Iterator[FakePlatform]:
    """Give a platform that takes reports."""
    with FakePlatform() as platform:
        yield platform


@pytest.fixture
def client(platform: FakePlatform, spool: Path) -> Iterator[Bluejay]:
    """Give a client that reports to the platform."""
    with Bluejay("test-key", base_url=platform.url, spool=spool) as client:
        yield client
