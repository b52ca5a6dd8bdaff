"""An agent's process for tests: it records calls with a fleet's spool, says when, and ends as it is told.

``python pods.py URL PLATFORM DIRECTORY CALLS LINES PACE END`` opens calls, records lines in them, and ends them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from bluejay_ws.client import Bluejay


def main() -> None:
    """Record calls; print a JSON line for each fact, as soon as it is recorded."""
    url, platform, directory, prefix, calls, lines, pace, end = sys.argv[1:]
    os.environ["BLUEJAY_SPOOL_DIRECTORY"] = directory
    bluejay = Bluejay(base_url=platform, spool=url)
    for number in range(int(calls)):
        identity = f"{prefix}{number}"
        with bluejay.call({"X-Simulation-Result-Id": identity}) as recorder:
            say("open", identity)
            for line in range(int(lines)):
                recorder.add_event(f"line {line}")
                say("line", identity, line)
                time.sleep(float(pace))
            if end == "hang":
                say("hang", identity)
                time.sleep(3600)
        say("closed", identity)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "close":
        say("flushed", "", int(bluejay.close(10)))


def say(what: str, identity: str, number: int = 0) -> None:
    """Tell the test, with the time of the whole machine."""
    sys.stdout.write(json.dumps([what, identity, number, time.monotonic()]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
