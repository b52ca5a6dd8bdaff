"""Let atheris look for bytes that break a property of the fuzz tests: ``python tools/fuzz.py [TEST ...]``.

The tests (``tests/**/test_fuzz_*.py``) are run by hypothesis, which knows nothing of the code; atheris watches which
lines an input reaches, and so finds what chance does not. It is no dependency of anything; for a venv of its own:

    pip install -e '.[dev]' atheris
    python tools/fuzz.py --seconds 60
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    "tests.wire.test_fuzz_journal",
    "tests.wire.test_fuzz_headers",
    "tests.delivery.test_fuzz_answers",
    "tests.delivery.test_fuzz_spool",
    "tests.hearing.test_fuzz_frames",
)
WATCHED = (
    "bluejay_ws.wire",
    "bluejay_ws.delivery",
    "bluejay_ws.hearing",
)


def _tests(module: str) -> dict[str, Any]:
    """Return the properties of a test module that need no fixture, by name."""
    found = vars(importlib.import_module(module))
    tests = {name: test for name, test in found.items() if name.startswith("test_") and hasattr(test, "hypothesis")}
    return {name: test for name, test in tests.items() if "parrot" not in test.hypothesis.inner_test.__annotations__}


def _names(wanted: list[str]) -> list[str]:
    listing = [f"{module}:{name}" for module in MODULES for name in _tests(module)]
    return [name for name in listing if not wanted or any(word in name for word in wanted)]


def _fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Run one property in this process, for good."""
    import atheris  # noqa: PLC0415 - optional

    with atheris.instrument_imports(include=list(WATCHED)):
        module, _, test = name.partition(":")
        one_input = _tests(module)[test].hypothesis.fuzz_one_input
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        "-max_len=8192",
        "-len_control=20",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options], one_input)
    atheris.Fuzz()


def main() -> int:
    """Run each property in a process of its own, one after the other; fail if one of them was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TEST", help="parts of their names; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each")
    parser.add_argument(
        "--corpus", type=Path, default=ROOT / ".hypothesis" / "atheris", help="what was found to matter"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.here:
        _fuzz(args.names[0], args.seconds, args.corpus / args.names[0].rpartition(":")[2])
        return 0
    broken = []
    for name in _names(args.names):
        print(f"== {name}", flush=True)
        command = [
            sys.executable,
            __file__,
            "--here",
            name,
            "--seconds",
            str(args.seconds),
            "--corpus",
            str(args.corpus),
        ]
        begun = time.monotonic()
        done = subprocess.run(  # noqa: S603 - ourselves
            command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
        )
        runs = [line for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units")]
        print(f"-- {' '.join(runs) or 'no figures'}, {time.monotonic() - begun:.0f} s", flush=True)
        if done.returncode:
            print(done.stdout[-4000:], done.stderr[-8000:])
            broken.append(name)
    print(f"broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
