"""The spool: what is found in it, and in which state."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import spool as spools
from bluejay_ws.delivery.names import HELD, NO_ID, PARKED, READY, SENDING, SENT, Name
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.faults import file_size_limit, no_descriptors
from tests.delivery.kit import (
    abandoned_call,
    bodies,
    claimed,
    files,
    finished_call,
    move,
    new_id,
    only,
    open_call,
    owners,
    spool_at,
    states,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    """A client can be configured before anything of it is needed."""
    Spool(tmp_path / "spool", counters=Counters())
    assert list(tmp_path.iterdir()) == []


# -- calls ------------------------------------------------------------------------------------------------------


def test_no_descriptors_are_told_once_and_counted_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Calls go on in memory, and the log does not fill with one line for each."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    with no_descriptors():
        for _ in range(3):
            assert spool.open_call(report_id=new_id(), simulation_result_id="1", header=b"") is None
    assert counters.snapshot() == {"spool.open_emfile": 3}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_full_spool_takes_no_new_calls(tmp_path: Path) -> None:
    """What waits is never given up for what comes: that goes on in memory."""
    counters = Counters()
    spool = spool_at(tmp_path, counters, max_reports=2)
    for identity in "123":
        finished_call(spool, identity)
    spool.tidy()
    assert spool.open_call(report_id=new_id(), simulation_result_id="4", header=b"") is None
    assert counters.snapshot() == {"spool.full": 1}
    only_two = spool.recover()[:2]
    for name in only_two:
        with spool.claim(name) as claim:
            claim.remove()
    spool.tidy()
    open_call(spool, "4")


def test_what_has_been_synced_is_not_synced_again(tmp_path: Path) -> None:
    """A call in which nothing happens costs the disk nothing."""
    spool = spool_at(tmp_path)
    file = open_call(spool, "1")
    spool.sync()
    spool.sync()
    assert not file.sync()


def test_syncing_takes_turns(tmp_path: Path) -> None:
    """With thousands of calls and a slow disk each sweep does a part, and none is left out for ever."""
    spool = spool_at(tmp_path)
    files = [open_call(spool, str(number)) for number in range(4)]
    for _ in files:
        spool.sync(seconds=-1.0)
    assert not any(file.sync() for file in files)


def test_a_call_that_ends_while_its_file_is_synced_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be taken for a call that goes on, for ever, and a person's `retry` would do nothing."""
    spool = spool_at(tmp_path)
    file = open_call(spool, "1")
    monkeypatch.setattr(os, "fdatasync", lambda _: file.seal())
    spool.sync()
    assert spool.recover() == [Name("1", file.report_id, READY)]


def test_a_disk_that_fails_to_sync_is_counted(tmp_path: Path) -> None:
    """The calls go on; that they would not survive a power cut is known."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    open_call(spool, "1")
    with no_descriptors():
        spool.sync()
    assert counters.snapshot() == {"spool.sync_emfile": 1}


# -- gathering --------------------------------------------------------------------------------------------------


def test_all_connections_of_one_call_come_together_oldest_first(tmp_path: Path) -> None:
    """The platform dials again after a failed connection: both parts are one report."""
    spool = spool_at(tmp_path)
    later = finished_call(spool, "720488", started_at=2000.0)
    earlier = finished_call(spool, "720488", started_at=1000.0)
    finished_call(spool, "720489")
    group = spool.gather("720488")
    assert [part.name.report_id for part in group.parts] == [earlier.report_id, later.report_id]
    group.release()


def test_a_strangers_file_is_no_part_of_a_call(tmp_path: Path) -> None:
    """Not even where its name begins like one."""
    spool = spool_at(tmp_path)
    parcel = finished_call(spool, "720488")
    (tmp_path / "720488.notes").write_text("foreign")
    assert claimed(spool, "720488").name.report_id == parcel.report_id


def test_a_file_that_is_gone_has_not_just_been_made(tmp_path: Path) -> None:
    """Its call has ended between the listing and the look at it."""
    assert not spool_at(tmp_path)._just_made(Name.of("720488", new_id(), "live"))


def test_a_running_call_is_waited_for(tmp_path: Path) -> None:
    """While the same call is still connected nothing of it is sent, and no lock is kept."""
    spool = spool_at(tmp_path)
    finished_call(spool, "720488")
    file = open_call(spool, "720488")
    assert spool.gather("720488").going_on
    assert spool.gather("720488").parts == []
    file.seal()
    assert len(spool.gather("720488").parts) == 2


def test_a_call_that_begins_at_this_moment_is_a_running_one(tmp_path: Path) -> None:
    """Between making its file and locking it nobody may take it for dead."""
    spool = spool_at(tmp_path)
    (tmp_path / str(Name.of("720488", new_id(), "live"))).touch()
    assert spool.gather("720488").going_on
    assert spool.recover() == []


def test_another_process_at_work_is_waited_for(tmp_path: Path) -> None:
    """Two processes share a directory; whoever has the lock delivers."""
    spool = spool_at(tmp_path)
    finished_call(spool, "720488")
    group = spool_at(tmp_path).gather("720488")
    assert spool.gather("720488").busy
    group.release()
    assert not spool.gather("720488").busy


def test_what_is_settled_is_named_and_not_locked(tmp_path: Path) -> None:
    """Tombstones and parked reports are no parts of what goes out."""
    spool = spool_at(tmp_path)
    sent, parked = (move(spool, finished_call(spool, "720488"), state) for state in (SENT, PARKED))
    group = spool.gather("720488")
    assert (group.delivered, group.parked, group.parts) == ([sent], [parked], [])


@pytest.mark.parametrize("kind", ["symlink", "dangling", "directory", "pipe"])
def test_what_is_planted_is_not_followed(tmp_path: Path, kind: str) -> None:
    """A link with the right name neither leaks another file nor stops the call it is named after."""
    counters = Counters()
    spool = spool_at(tmp_path / "spool", counters)
    secret = tmp_path / "secret"
    secret.write_bytes(b"".join(journal.line(body) for body in bodies(new_id(), "720488", "stolen")))
    for state in ("live", "ready", "sending", "held"):
        planted = tmp_path / "spool" / str(Name.of("720488", new_id(), state))
        if kind == "pipe":
            os.mkfifo(planted)
        elif kind == "directory":
            planted.mkdir()
        else:
            planted.symlink_to(secret if kind == "symlink" else tmp_path / "nowhere")
    parcel = finished_call(spool, "720488")
    assert claimed(spool, "720488").name.report_id == parcel.report_id
    spool.recover()
    assert secret.read_bytes().count(b"stolen") == 1
    assert counters["spool.not_ours"] == 2  # live and held; the others are looked at when their turn comes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    """A report that another user planted is not sent with our key."""
    spool = spool_at(tmp_path)
    finished_call(spool, "720488")
    os.chown(only(tmp_path), 65534, -1)
    assert spool.gather("720488").parts == []


def test_a_directory_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    """Removing the spool under a running process raises nowhere."""
    spool = spool_at(tmp_path / "spool")
    shutil.rmtree(tmp_path / "spool")
    assert spool.gather("720488").parts == []
    assert spool.recover() == []
    spool.tidy()


def test_one_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    """No descriptors is not the same as no files: nothing may be taken for delivered elsewhere."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    finished_call(spool, "720488")
    with no_descriptors():
        with pytest.raises(OSError, match="Too many open files"):
            spool.gather("720488")
        assert spool.recover() == []
    assert counters.snapshot() == {"spool.list_emfile": 1}


# -- recovery ---------------------------------------------------------------------------------------------------


def test_a_call_whose_process_died_becomes_ready(tmp_path: Path) -> None:
    """Its lock is free, so nobody is going to end it."""
    counters = Counters()
    abandoned_call(spool_at(tmp_path), "720488", "freeze_card")
    spool = spool_at(tmp_path, counters)
    (name,) = spool.recover()
    assert (name.identity, name.state) == ("720488", "ready")
    claim = claimed(spool, "720488")
    assert claim.facts.counts == {"tool_calls": 1}
    assert claim.facts.closed is None
    assert counters.snapshot() == {"recovered": 1}


def test_running_calls_are_not_recovered(tmp_path: Path) -> None:
    """Neither our own nor those of another process that lives."""
    mine, other = spool_at(tmp_path), spool_at(tmp_path)
    open_call(mine, "1")
    open_call(other, "2")
    assert mine.recover() == []
    assert states(tmp_path) == ["1.live", "2.live"]


def test_a_live_file_that_names_nobody_is_told_by_its_own_lock(tmp_path: Path) -> None:
    """As an earlier release, or a person, left it."""
    spool = spool_at(tmp_path)
    report_id = new_id()
    path = tmp_path / str(Name.of("720488", report_id, "live"))
    path.write_bytes(b"".join(journal.line(body) for body in bodies(report_id, "720488", "one")))
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert spool.gather("720488").going_on
        assert spool.recover() == []
    assert [name.identity for name in spool.recover()] == ["720488"]


def test_a_file_of_our_own_that_no_call_writes_to_is_recovered(tmp_path: Path) -> None:
    """Such as one that could not be removed or renamed at the end of its call."""
    spool = spool_at(tmp_path)
    file = open_call(spool, "720488", "one")
    path = only(tmp_path)
    data = path.read_bytes()
    file.discard()
    path.write_bytes(data)
    assert spool_at(tmp_path).recover() == []
    assert [name.identity for name in spool.recover()] == ["720488"]


def test_whether_a_call_goes_on_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be found out the file is left alone, and the next round asks again."""
    counters = Counters()
    other, spool = spool_at(tmp_path), spool_at(tmp_path, counters)
    file = open_call(other, "720488")
    listed = [path.name for path in tmp_path.iterdir()]
    with no_descriptors(), monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda _: listed)
        assert spool.recover() == []
        with pytest.raises(OSError, match="Too many open files"):
            spool.gather("720488")
    assert counters.snapshot() == {"spool.emfile": 1}
    assert spool.gather("720488").going_on
    file.seal()


def test_a_lock_that_somebody_removed_is_made_again_by_the_housekeeping(tmp_path: Path) -> None:
    """Within half a minute the running calls are safe from being taken for dead."""
    counters = Counters()
    spool, other = spool_at(tmp_path, counters), spool_at(tmp_path)
    file = open_call(spool, "1")
    owners(tmp_path)[0].unlink()
    spool.tidy()
    assert other.recover() == []
    assert other.gather("1").going_on
    owners(tmp_path)[0].unlink()
    open_call(spool, "2")
    assert other.recover() == []
    owners(tmp_path)[0].unlink()
    with no_descriptors():
        spool.tidy()
    assert counters["spool.owner_emfile"] == 1
    file.seal()


def test_locks_of_dead_processes_go_with_the_housekeeping(tmp_path: Path) -> None:
    """Each start leaves none for ever; one that lives is left."""
    spool, other = spool_at(tmp_path), spool_at(tmp_path)
    abandoned_call(spool_at(tmp_path), "1")
    file = open_call(spool, "2")
    assert len(owners(tmp_path)) == 2
    other.tidy()
    (lock,) = owners(tmp_path)
    assert lock.stem in only_live(tmp_path, "2").name
    assert [name.identity for name in other.recover()] == ["1"]
    file.seal()


def only_live(directory: Path, identity: str) -> Path:
    """Return the file of a call that goes on."""
    (path,) = directory.glob(f"{identity}.*.live")
    return path


def test_a_call_is_never_unknown_while_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redial that is delivered at this moment must not take the call for left, and report half of it."""
    spool = spool_at(tmp_path)
    calls = [open_call(spool, "720488") for _ in range(2)]
    seen = []
    monkeypatch.setattr(os, "fdatasync", lambda _: seen.append(spool.gather("720488").going_on))
    spool.sync()
    assert seen == [True, True]
    assert len(spool._shelf.live) == len(calls)


def test_a_call_that_is_being_opened_is_not_recovered_by_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper may look between the making of the file and its first line."""
    spool = spool_at(tmp_path)
    plain, seen = spool._shelf.open, []

    def watched(path: str, flags: int) -> int:
        fd = plain(path, flags)
        seen.append((spool.recover(), spool.gather("720488").going_on))
        return fd

    monkeypatch.setattr(spool._shelf, "open", watched)
    file = open_call(spool, "720488")
    assert seen == [([], True)]
    file.discard()


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    """The process died while it wrote; what it had not finished was not recorded."""
    abandoned_call(spool_at(tmp_path), "720488", "freeze_card")
    whole = only(tmp_path).read_bytes()
    with only(tmp_path).open("ab") as file:
        file.write(b'["tool_calls",{"start_off')
    spool = spool_at(tmp_path)
    spool.recover()
    assert claimed(spool, "720488").facts.counts == {"tool_calls": 1}
    assert only(tmp_path).read_bytes().startswith(whole + b'["delivery",')


def test_a_damaged_line_is_put_aside_and_counted(tmp_path: Path) -> None:
    """Only it is lost; a person can look at it."""
    counters = Counters()
    abandoned_call(spool_at(tmp_path), "720488", "one", "two", "three")
    damaged = only(tmp_path).read_bytes().replace(b'"two"', b'"tw0"')
    only(tmp_path).write_bytes(damaged)
    spool = spool_at(tmp_path, counters)
    spool.recover()
    assert claimed(spool, "720488").facts.counts == {"tool_calls": 2}
    assert counters["spool.damaged_lines"] >= 1
    assert b'"tw0"' in next((tmp_path / "quarantine").iterdir()).read_bytes()


def test_a_lost_header_is_made_up_from_the_name(tmp_path: Path) -> None:
    """The name says which call and report it is; a damaged first line does not make it nobody's."""
    report_id = abandoned_call(spool_at(tmp_path), "720488", "one")
    data = only(tmp_path).read_bytes()
    only(tmp_path).write_bytes(b"x" + data)
    spool = spool_at(tmp_path)
    spool.recover()
    facts = claimed(spool, "720488").facts
    assert (facts.report_id, facts.simulation_result_id) == (report_id, "720488")


def test_a_late_id_is_found_in_the_lines(tmp_path: Path) -> None:
    """The process died between writing the id and renaming the file."""
    abandoned_call(spool_at(tmp_path), None, "one")
    with only(tmp_path).open("ab") as file:
        file.write(journal.line(journal.bound("720488")))
    (name,) = spool_at(tmp_path).recover()
    assert name.identity == "720488"
    assert states(tmp_path) == ["720488.ready"]


def test_a_call_that_never_had_an_id_is_parked(tmp_path: Path) -> None:
    """There is nobody to report it to; a person may know."""
    counters = Counters()
    abandoned_call(spool_at(tmp_path), None, "one")
    assert spool_at(tmp_path, counters).recover() == []
    assert states(tmp_path) == [f"{NO_ID}.parked"]
    assert counters["parked"] == 1


def test_a_sealed_call_that_never_had_an_id_is_parked_too(tmp_path: Path) -> None:
    """It was not left by a process that died, and is not counted as that."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    open_call(spool, None, "one").seal()
    assert spool.recover() == []
    assert states(tmp_path) == [f"{NO_ID}.parked"]
    assert counters.snapshot() == {"parked": 1}


def test_an_id_that_is_an_underscore_is_an_id(tmp_path: Path) -> None:
    """It is recovered like any other, and apart from what has none."""
    abandoned_call(spool_at(tmp_path), "_", "one")
    abandoned_call(spool_at(tmp_path), None, "two")
    spool = spool_at(tmp_path)
    assert [name.identity for name in spool.recover()] == ["_"]
    assert claimed(spool, "_").facts.counts == {"tool_calls": 1}


def test_what_was_touched_just_now_is_somebodys(tmp_path: Path) -> None:
    """Later rounds leave alone what another living process is waiting with."""
    spool = spool_at(tmp_path)
    finished_call(spool, "720488")
    assert spool.recover(untouched=60.0) == []
    assert len(spool.recover()) == 1


def test_every_state_that_can_be_delivered_is_found(tmp_path: Path) -> None:
    """Ready and on its way; not what is settled."""
    spool = spool_at(tmp_path)
    for state in (READY, SENDING, SENT, PARKED):
        move(spool, finished_call(spool, state), state)
    assert sorted(name.state for name in spool.recover()) == ["ready", "sending"]


def test_of_what_is_held_only_what_goes_on_by_itself_is_found(tmp_path: Path) -> None:
    """What waits for a person is not waited for by anybody else, until its file changes."""
    spool = spool_at(tmp_path)
    held = {}
    for reason in ("unreadable", "unsettled", "already_delivered"):
        parcel = finished_call(spool, reason)
        with spool.claim(Name.of(reason, parcel.report_id, READY)) as claim:
            claim.note(outcome=reason)
            claim.move(HELD)
            held[reason] = claim.name
    for _ in range(2):
        assert [name.identity for name in spool.recover()] == ["unreadable"]
    with spool.claim(held["unsettled"]) as claim:
        claim.note(outcome="unreadable")
    os.utime(tmp_path / str(held["unsettled"]), (1.0, 1.0))
    assert sorted(name.identity for name in spool.recover()) == ["unreadable", "unsettled"]


@pytest.mark.parametrize("seed", range(30))
def test_no_corruption_stops_a_start(tmp_path: Path, seed: int) -> None:
    """Flipped bits, truncations and foreign bytes cost the damaged lines and nothing else."""
    chance = random.Random(seed)
    crashed = spool_at(tmp_path)
    identities = [str(number) for number in range(5)]
    for identity in identities:
        abandoned_call(crashed, identity, *("tool",) * 5)
    victims = sorted(files(tmp_path))[:3]
    for path in victims:
        data = bytearray(path.read_bytes())
        for _ in range(chance.randrange(1, 6)):
            if chance.random() < 0.7:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            else:
                at = chance.randrange(len(data))
                data[at : at + chance.randrange(40)] = chance.randbytes(chance.randrange(40))
        path.write_bytes(data[: chance.randrange(1, len(data) + 1)] if chance.random() < 0.3 else data)
    (tmp_path / "README").write_text("foreign")
    spool = spool_at(tmp_path)
    found = spool.recover()
    assert sorted(name.identity for name in found) == identities
    sound = {path.name.split(".")[0] for path in victims}
    for identity in identities:
        claim = claimed(spool, identity)
        body = journal.assemble([claim.bodies], simulation_result_id=identity)
        assert identity in sound or body.count(b'"tool"') == 5


# -- memory -----------------------------------------------------------------------------------------------------


def test_what_is_in_memory_is_stored_as_it_is(tmp_path: Path) -> None:
    """A disk that has room again takes the whole report."""
    spool = spool_at(tmp_path)
    report_id = new_id()
    assert spool.store(Parcel.from_memory(report_id, "720488", bodies(report_id, "720488", "one")))
    assert claimed(spool, "720488").bodies == bodies(report_id, "720488", "one")


def test_half_a_report_is_not_stored(tmp_path: Path) -> None:
    """A disk that takes a part of it gets nothing."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report_id = new_id()
    with file_size_limit(100):
        assert not spool.store(Parcel.from_memory(report_id, "1", bodies(report_id, "1", "one")))
    with no_descriptors():
        assert not spool.store(Parcel.from_memory(report_id, "1", bodies(report_id, "1", "one")))
    assert list(tmp_path.iterdir()) == []
    assert counters.snapshot() == {"spool.store_emfile": 1, "spool.store_short": 1}


def test_a_tombstone_can_be_made_without_a_file(tmp_path: Path) -> None:
    """An id that was reported from memory is used up as well."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    name = Name.of("720488", new_id(), READY)
    with no_descriptors():
        spool.bury(name, {})
    assert counters["spool.tombstone_emfile"] == 1
    spool.bury(name, {"outcome": "delivered"})
    assert spool.gather("720488").delivered == [name.become(SENT)]
    assert spool.tombstone(name.become(SENT)) == {"outcome": "delivered"}
    assert spool.tombstone(Name.of("1", new_id(), SENT)) == {}


# -- bounds -----------------------------------------------------------------------------------------------------


def aged(directory: Path, seconds: float) -> None:
    """Make every file so much older."""
    for path in directory.iterdir():
        facts = path.stat()
        os.utime(path, (facts.st_atime - seconds, facts.st_mtime - seconds))


def test_tombstones_last_a_day(tmp_path: Path) -> None:
    """Long enough for the platform to dial again, not longer."""
    spool = spool_at(tmp_path)
    move(spool, finished_call(spool, "1"), SENT)
    spool.tidy()
    assert states(tmp_path) == ["1.sent"]
    aged(tmp_path, 25 * 3600)
    spool.tidy()
    assert states(tmp_path) == []


def test_no_more_than_so_many_tombstones_are_kept(tmp_path: Path) -> None:
    """The oldest go first, so that finding an id stays quick."""
    spool = spool_at(tmp_path)
    for number in range(spools.TOMBSTONES + 2):
        path = tmp_path / str(Name.of(str(number), new_id(), SENT))
        path.touch()
        os.utime(path, (path.stat().st_mtime - 10, path.stat().st_mtime - 10 + number / 1000))
    spool.tidy()
    left = states(tmp_path)
    assert len(left) == spools.TOMBSTONES
    assert "0.sent" not in left
    assert "1.sent" not in left


def test_parked_reports_are_kept_for_their_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After that they are removed, counted and told; nothing else is removed for its age."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    for state in (READY, SENDING, HELD, PARKED):
        move(spool, finished_call(spool, state), state)
    spool.tidy()
    assert len(states(tmp_path)) == 4
    aged(tmp_path, 31 * 24 * 3600)
    spool.tidy()
    assert states(tmp_path) == ["held.held", "ready.ready", "sending.sending"]
    assert counters.snapshot() == {"dropped.parked_age": 1}
    assert "too old" in caplog.text


def test_parked_reports_are_the_first_to_be_given_up(tmp_path: Path) -> None:
    """The oldest go until the rest fits."""
    counters = Counters()
    spool = spool_at(tmp_path, counters, max_reports=2)
    for identity in "1234":
        move(spool, finished_call(spool, identity), READY if identity == "4" else PARKED)
        aged(tmp_path, 10)
    spool.tidy()
    assert states(tmp_path) == ["3.parked", "4.ready"]
    assert counters.snapshot() == {"dropped.parked_bounds": 2}
    assert not spool.full


def test_leftovers_of_dead_processes_are_swept(tmp_path: Path) -> None:
    """A process that died while it stored or tried something leaves no litter for ever."""
    spool = spool_at(tmp_path)
    for name in (f"{Name.of('1', new_id(), READY)}.new", ".try-1-ab", "README"):
        (tmp_path / name).touch()
    spool.tidy()
    assert len(list(tmp_path.iterdir())) == 3
    aged(tmp_path, 2 * 24 * 3600)
    spool.tidy()
    assert [path.name for path in tmp_path.iterdir()] == ["README"]


def test_an_id_is_remembered_for_a_whole_day(tmp_path: Path) -> None:
    """An hour less than that is not over yet."""
    spool = spool_at(tmp_path)
    move(spool, finished_call(spool, "1"), SENT)
    aged(tmp_path, 23 * 3600)
    spool.tidy()
    assert states(tmp_path) == ["1.sent"]


def test_what_cannot_be_stored_whole_leaves_what_is_there(tmp_path: Path) -> None:
    """A process that dies while it stores a report leaves the old file, not half of the new one."""
    spool = spool_at(tmp_path)
    parcel = finished_call(spool, "1", "one")
    before = only(tmp_path).read_bytes()
    with file_size_limit(100):
        assert not spool.store(Parcel.from_memory(parcel.report_id, "1", bodies(parcel.report_id, "1", "one", "two")))
    assert only(tmp_path).read_bytes() == before


def test_a_first_line_that_is_lost_altogether_is_made_up(tmp_path: Path) -> None:
    """Nothing of it can be saved; the report still says whose it is, and carries its marker."""
    report_id = abandoned_call(spool_at(tmp_path), "720488", "one")
    data = only(tmp_path).read_bytes()
    only(tmp_path).write_bytes(data.replace(b'"server"', b'"servor"', 1))
    spool = spool_at(tmp_path)
    spool.recover()
    claim = claimed(spool, "720488")
    assert (claim.facts.report_id, claim.facts.simulation_result_id) == (report_id, "720488")
    assert report_id.encode() in journal.assemble([claim.bodies], simulation_result_id="720488")


def test_what_is_synced_really_goes_to_the_disk(tmp_path: Path) -> None:
    """A pipe in the file's place has no disk, and says so."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    file = open_call(spool, "1")
    end, pipe = os.pipe()
    os.dup2(pipe, file._fd)
    spool.sync()
    assert counters["spool.sync_einval"] == 1
    os.close(end)
    os.close(pipe)


def test_what_is_stored_follows_no_link(tmp_path: Path) -> None:
    """Whoever may write to the directory could have another file of ours written over."""
    directory, precious = tmp_path / "spool", tmp_path / "precious"
    directory.mkdir()
    precious.write_text("precious")
    counters = Counters()
    spool = spool_at(directory, counters)
    report_id = new_id()
    (directory / f"{Name.of('1', report_id, READY)}.new").symlink_to(precious)
    assert not spool.store(Parcel.from_memory(report_id, "1", bodies(report_id, "1", "one")))
    assert precious.read_text() == "precious"
    assert counters["spool.store_eloop"] == 1
