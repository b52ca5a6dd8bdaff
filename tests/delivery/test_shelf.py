"""What the files of live calls share, and how many descriptors they take."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.names import LIVE, Name
from bluejay_ws.delivery.shelf import Shelf
from bluejay_ws.stats import Counters
from tests.delivery.faults import no_descriptors
from tests.delivery.kit import descriptors, end, new_id, only, open_call, owners, spool_at, states, tool

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.delivery.callfile import CallFile


def test_recording_takes_so_many_descriptors_and_no_more(tmp_path: Path) -> None:
    """However many calls go on, and however they are written to."""
    spool = spool_at(tmp_path, open_files=3)
    files = [open_call(spool, str(number)) for number in range(20)]
    assert descriptors(tmp_path) == 3
    for number in range(60):
        files[number * 7 % 20].append(tool(f"tool-{number}"))
        assert descriptors(tmp_path) == 3
    for file in files:
        file.seal()
    assert descriptors(tmp_path) == 0
    assert sum(path.read_bytes().count(b"tool-") for path in tmp_path.glob("*.ready")) == 60


def test_those_that_were_opened_first_give_theirs_up(tmp_path: Path) -> None:
    """Writing to a file that is open changes no order: it is the hot path."""
    spool = spool_at(tmp_path, open_files=2)
    one, two = open_call(spool, "1"), open_call(spool, "2")
    one.append(tool())
    three = open_call(spool, "3")
    assert list(spool._shelf.holders) == [two, three]


def test_one_that_is_being_written_to_is_left_out(tmp_path: Path) -> None:
    """Nobody waits for another call's disk: the next one gives its descriptor up."""
    import threading

    spool = spool_at(tmp_path, open_files=2)
    busy, other = open_call(spool, "1"), open_call(spool, "2")
    held, done = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with busy._lock:
            held.set()
            done.wait(20.0)

    thread = threading.Thread(target=write_slowly)
    thread.start()
    held.wait(20.0)
    three = open_call(spool, "3")
    assert list(spool._shelf.holders) == [busy, three]
    other.append(tool())
    done.set()
    thread.join()


def test_one_that_this_thread_is_writing_to_is_left_out_too(tmp_path: Path) -> None:
    """A handler of signals that opens a call in the middle of a line must not close the file under it."""
    spool = spool_at(tmp_path, open_files=1)
    interrupted = open_call(spool, "1")
    with interrupted._lock:
        open_call(spool, "2")
        assert interrupted in spool._shelf.holders


@pytest.mark.parametrize(
    ("limit", "in_use", "most"),
    [(1024, 100, 128), (1024, 511, 128), (1024, 512, 16), (9_000, 10, 1024), (40, 5, 8), (40, 20, 1)],
)
def test_the_bound_is_a_share_of_what_the_process_may_open(tmp_path: Path, limit: int, in_use: int, most: int) -> None:
    """The more the agent uses itself, the less is left to us."""
    shelf: Shelf[CallFile] = Shelf(str(tmp_path), counters=Counters())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit > hard != resource.RLIM_INFINITY:
        pytest.skip("so many are not to be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        assert shelf._bound(in_use) == most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_without_a_limit_has_a_bound_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs more open than that."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert Shelf(str(tmp_path), counters=Counters())._bound(10**6) == 1024


def test_where_there_are_no_descriptors_ours_are_given_back(tmp_path: Path) -> None:
    """A call goes on in its file as long as any other call has a descriptor to spare."""
    spool = spool_at(tmp_path, counters := Counters(), open_files=4)
    files = [open_call(spool, str(number)) for number in range(6)]
    with no_descriptors():
        for file in files:
            file.append(tool())
    assert [file.broken for file in files] == [None] * 6
    assert counters.snapshot() == {}
    assert all(path.read_bytes().count(b"freeze_card") == 1 for path in tmp_path.glob("*.live"))


def test_a_call_goes_on_as_long_as_its_file_is_registered(tmp_path: Path) -> None:
    """Our own calls are known without asking the kernel; those of others are asked for once for each process."""
    mine, other = spool_at(tmp_path), spool_at(tmp_path)
    file = open_call(mine, "1")
    name = Name.parse(only(tmp_path).name)
    assert name is not None
    asked: dict[str, bool] = {}
    assert mine._shelf.goes_on(name, {})
    assert not mine._shelf.goes_on(name._replace(report_id=new_id()), {})
    assert other._shelf.goes_on(name, asked)
    assert asked == {name.token: True}
    assert other._shelf.goes_on(Name("2", new_id(), LIVE, name.token), asked)
    file.discard()


AGENT = """
import asyncio, json, resource, sys
from websockets.asyncio.server import serve
from websockets.asyncio.client import connect
import bluejay_ws
LIMIT, COUNT = int(sys.argv[1]), int(sys.argv[2])

async def handler(ws):
    recorder = bluejay_ws.current_recorder()
    async for message in ws:
        recorder.add_tool_call("echo", parameters={"message": message})
        await ws.send(message)

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    client = bluejay_ws.Bluejay("key", base_url="http://127.0.0.1:9", spool=sys.argv[4], flush_timeout=0.0)
    record = bluejay_ws.decorator(client=client) if sys.argv[3] == "recorded" else lambda one: one
    async with serve(record(handler), "127.0.0.1", 0, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps(client.stats()), flush=True)
asyncio.run(main())
"""

CROWD = """
import asyncio, sys
from websockets.asyncio.client import connect

async def main():
    url, count = f"ws://127.0.0.1:{sys.argv[1]}", int(sys.argv[2])
    headers = lambda number: {"X-Simulation-Result-Id": str(number)}
    dial = lambda number: connect(url, additional_headers=headers(number), ping_interval=None, open_timeout=20)
    lines = [await dial(number) for number in range(count)]
    for line in lines:
        await line.send("hello")
        assert await asyncio.wait_for(line.recv(), 20) == "hello"
    print("all answered", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["bare", "recorded"])
def test_an_agent_accepts_as_many_calls_as_without_us(tmp_path: Path, kind: str) -> None:
    """With nearly all descriptors taken by its own connections, each call is accepted, answered and in its file."""
    limit, count = 256, 224
    directory = tmp_path / "spool"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    agent = [sys.executable, "-c", AGENT, str(limit), str(count), kind, str(directory)]
    with subprocess.Popen(agent, **pipes) as server:  # type: ignore[call-overload]
        port = server.stdout.readline().strip()
        with subprocess.Popen([sys.executable, "-c", CROWD, port, str(count)], **pipes) as crowd:  # type: ignore[call-overload]
            assert crowd.stdout.readline() == "all answered\n"
            if kind == "recorded":
                live = list(directory.glob("*.live"))
                assert len(live) == count
                assert all(path.read_bytes().count(b'"hello"') == 1 for path in live)
            server.stdin.write("\n")
            server.stdin.flush()
            counts = json.loads(server.stdout.readline())
            crowd.communicate("\n")
    assert not [name for name in counts if name.startswith(("spool.", "internal", "errors"))]


def test_an_orderly_end_leaves_no_lock(tmp_path: Path) -> None:
    """A directory in which nothing waits is empty; a call that goes on until the end is known to be lost."""
    program = (
        "import sys, pathlib; from tests.delivery.kit import *\n"
        "spool = spool_at(pathlib.Path(sys.argv[1])); file = open_call(spool, '1')\n"
        "file.discard() if sys.argv[2] == 'orderly' else None"
    )
    for ending, left in (("orderly", []), ("at once", ["1.live"])):
        subprocess.run([sys.executable, "-c", program, str(tmp_path), ending], check=True, timeout=30)
        assert states(tmp_path) == left
        assert len(owners(tmp_path)) == len(left)
    spool = spool_at(tmp_path)
    assert [name.identity for name in spool.recover()] == ["1"]
    spool.tidy()
    assert owners(tmp_path) == []


def test_a_lost_report_is_known_by_its_end(tmp_path: Path) -> None:
    """Its last lines are written, also to a file that has no descriptor at that moment."""
    spool = spool_at(tmp_path, open_files=1)
    one = open_call(spool, "1", "freeze_card")
    open_call(spool, "2").discard()
    open_call(spool, "3")
    for body in end(one.report_id):
        one.append(body)
    one.seal()
    (claim,) = spool.gather("1").parts
    assert claim.facts.closed is not None
    assert claim.bodies[-2:] == end(one.report_id)
