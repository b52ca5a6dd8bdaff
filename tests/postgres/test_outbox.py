"""The outbox in PostgreSQL: every verb against a real server."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.delivery import postgres, postgres_admin
from bluejay_ws.delivery.files import STATES
from bluejay_ws.delivery.postgres import ClaimedCall, Outbox, Piece, Settlement
from bluejay_ws.delivery.postgres_admin import PostgresAdmin
from bluejay_ws.exceptions import ConfigurationError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

PLATFORM = "https://api.getbluejay.ai"
LEASE = 30.0


def rid(number: int) -> str:
    """Return a report id."""
    return f"{number:032x}"


def piece(number: int, identity: str = "720488", body: bytes = b"abc", end: str = "sealed", start: int = 0) -> Piece:
    """Return a piece of a report."""
    return Piece(rid(number), identity, start, body, end)


@pytest.fixture
def outbox(url: str) -> Iterator[Outbox]:
    """Return the outbox as one process has it."""
    outbox = Outbox(url, PLATFORM)
    assert outbox.claim(LEASE) is None  # makes the row of the destination
    with outbox.link:
        yield outbox


@pytest.fixture
def other(url: str) -> Iterator[Outbox]:
    """Return the outbox as another process has it."""
    other = Outbox(url, PLATFORM)
    with other.link:
        yield other


def sql(outbox: Outbox, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """Look into the database."""
    return outbox.link.rows(text, *values)


def claimed(outbox: Outbox, **options: Any) -> ClaimedCall:
    """Claim a call that must be there."""
    call = outbox.claim(LEASE, **options)
    assert call is not None
    return call


# -- handing in ---------------------------------------------------------------------------------------------------


def test_a_sealed_report_can_be_claimed_by_another_process(outbox: Outbox, other: Outbox) -> None:
    """Everything that was recorded comes with it, in order."""
    outbox.push([piece(1, body=b"abc", end="")])
    assert other.claim(LEASE) is None  # the call continues
    assert outbox.push([piece(1, body=b"def", start=3)]) == {rid(1): (6, "sealed")}
    call = claimed(other)
    assert (call.identity, call.unsure, call.history, call.probe) == ("720488", False, {}, False)
    assert [(each.report_id, each.state, each.journal) for each in call.reports] == [(rid(1), "sealed", b"abcdef")]


def test_what_is_handed_in_twice_is_there_once(outbox: Outbox) -> None:
    """Nobody knows whether the last transaction counted when its connection ends: it is done again."""
    outbox.push([piece(1, end="")])
    assert outbox.push([piece(1, end="")]) == {rid(1): (3, "live")}
    outbox.push([piece(1, body=b"def", start=3)])
    assert outbox.push([piece(1, body=b"def", start=3)]) == {rid(1): (6, "sealed")}
    assert claimed(outbox).reports[0].journal == b"abcdef"


@pytest.mark.parametrize(("end", "waits"), [("", "off"), ("sealed", "on")])
def test_handing_in_reads_no_whole_table_and_waits_for_the_disk_only_at_the_end(url: str, end: str, waits: str) -> None:
    """However large the tables have become since the plan was made; while a call goes on the pod still has it all."""
    arguments = "%s, 'host', 1, '1', %s, %b::text[], %b::text[], %b::bigint[], %b::bytea[], %b::text[]"
    scans = "select coalesce(sum(seq_scan), 0)::int from pg_stat_xact_user_tables where schemaname = 'bluejay_ws'"
    with postgres.connect(url) as connection:
        for start in range(0, 800, 100):
            ids = [rid(start + number) for number in range(100)]
            arrays = (ids, ids, [0] * 100, [b"abc"] * 100, [end] * 100)
            with connection.transaction():
                push = f"select * from bluejay_ws.push({arguments})".encode()
                connection.execute(push, (uuid.uuid4(), PLATFORM, *arrays))
                assert connection.execute("show synchronous_commit").fetchone() == (waits,)
                assert connection.execute(scans).fetchone() == (0,)


def test_a_gap_is_not_filled(outbox: Outbox) -> None:
    """A database that has forgotten the beginning says how much it has, and wants the rest."""
    assert outbox.push([piece(1, start=100)]) == {rid(1): (0, "live")}
    assert outbox.claim(LEASE) is None


def test_a_call_that_gets_its_id_late_waits_for_it(outbox: Outbox) -> None:
    """Without an id it is kept for a person; with one it is delivered."""
    outbox.push([piece(1, identity="", end=""), piece(2, identity="", end="sealed")])
    outbox.push([piece(1, identity="720488", start=3, body=b"")])
    assert claimed(outbox).identity == "720488"
    assert outbox.counts()["reports.no_id"] == 1


def test_a_call_that_was_dropped_leaves_nothing(outbox: Outbox) -> None:
    """No id ever came, or nothing was to be kept."""
    outbox.push([piece(1, end="")])
    outbox.push([piece(1, start=3, body=b"", end="gone"), piece(2, body=b"", end="gone")])
    assert outbox.claim(LEASE) is None
    assert sql(outbox, "select count(*) from bluejay_ws.reports") == [(0,)]
    assert sql(outbox, "select count(*) from bluejay_ws.chunks") == [(0,)]


def test_two_connections_of_one_id_go_out_together(outbox: Outbox, other: Outbox) -> None:
    """The platform dialled again, and another pod answered: one report, and nothing before both have ended."""
    outbox.push([piece(1)])
    other.push([piece(2, end="")])
    assert outbox.claim(LEASE) is None
    other.push([piece(2, start=3, body=b"")])
    assert [each.report_id for each in claimed(outbox).reports] == [rid(1), rid(2)]
    assert outbox.claim(LEASE) is None


def test_an_id_that_is_used_up_holds_what_comes_later(outbox: Outbox) -> None:
    """One accepted POST for one call: a later connection waits for a person."""
    outbox.push([piece(1)])
    assert outbox.settle(claimed(outbox), Settlement("delivered"))
    outbox.push([piece(2)])
    assert outbox.claim(LEASE) is None
    assert outbox.counts() == {"delivered": 1, "reports.held": 1}


def test_what_ends_while_its_call_is_being_sent_is_held(outbox: Outbox, other: Outbox) -> None:
    """It was not in the report that left."""
    outbox.push([piece(1)])
    call = claimed(outbox)
    other.push([piece(2)])
    outbox.settle(call, Settlement("delivered"))
    assert outbox.counts() == {"delivered": 1, "reports.held": 1}


# -- who has it ---------------------------------------------------------------------------------------------------


def test_a_lease_keeps_others_away_until_it_ends(outbox: Outbox, other: Outbox) -> None:
    """Renewed it holds; when it runs out, the next one knows that the report may have been delivered."""
    outbox.push([piece(1)])
    first = claimed(outbox)
    assert outbox.renew(["720488"], LEASE) == 1
    assert other.renew(["720488"], LEASE) == 0
    assert other.claim(LEASE) is None
    outbox.renew(["720488"], 0.0)
    second = claimed(other)
    assert second.unsure
    assert not outbox.settle(first, Settlement("waiting"))  # it is not ours any more
    assert other.settle(second, Settlement("waiting"))


def test_delivered_is_delivered_whoever_has_the_lease(outbox: Outbox, other: Outbox) -> None:
    """The platform said so: nobody may post it again."""
    outbox.push([piece(1)])
    first = claimed(outbox)
    outbox.renew(["720488"], 0.0)
    second = claimed(other)
    assert outbox.settle(first, Settlement("delivered"))
    assert not other.settle(second, Settlement("waiting"))
    assert outbox.counts() == {"delivered": 1}


def test_history_travels_with_the_call(outbox: Outbox, other: Outbox) -> None:
    """Whoever tries next knows what was tried; its wait is the database's business."""
    outbox.push([piece(1)])
    outbox.settle(claimed(outbox), Settlement("waiting", wait=3600, history={"attempts": 1}, reason="http.503"))
    assert other.claim(LEASE) is None
    sql(other, "update bluejay_ws.calls set next_at = now()")
    assert claimed(other).history == {"attempts": 1}


def test_the_newest_goes_first_and_retries_are_not_starved(outbox: Outbox) -> None:
    """Somebody may be looking at the newest; a deliverer asks for retries first now and then."""
    outbox.push([piece(1, "old")])
    outbox.settle(claimed(outbox), Settlement("waiting"))
    outbox.push([piece(2, "new")])
    outbox.push([piece(3, "newer")])
    assert claimed(outbox).identity == "newer"
    assert claimed(outbox, retries_first=True).identity == "old"
    assert claimed(outbox, retries_first=True).identity == "new"


def test_destinations_do_not_mix(url: str, outbox: Outbox) -> None:
    """A report leaves for the platform it was recorded for, and for no other."""
    local = Outbox(url, "http://localhost:1")
    with local.link:
        outbox.push([piece(1)])
        local.claim(LEASE)
        assert local.claim(LEASE) is None
        assert local.counts() == {}


# -- processes that die -------------------------------------------------------------------------------------------


def silent(outbox: Outbox, seconds: float) -> None:
    """Let the pods have been silent for this long, while the database was at work."""
    since = "now() - make_interval(secs => %s)"
    sql(outbox, f"update bluejay_ws.pods set seen_at = {since}", seconds)
    sql(outbox, f"update bluejay_ws.fleet set alive_since = {since}, seen_at = now()", seconds)


def test_a_pod_that_vanished_leaves_what_it_had_sent(outbox: Outbox, other: Outbox) -> None:
    """Its report is sealed when its lease is over, says so, and waits until the platform may have dialled again."""
    outbox.push([piece(1, end="")])
    assert other.reap(15, 2) == 0
    silent(other, 16)
    assert other.reap(15, 2) == 1
    assert other.claim(LEASE) is None
    sql(other, "update bluejay_ws.calls set next_at = now()")
    assert [each.state for each in claimed(other).reports] == ["lost"]


def test_no_lease_runs_while_the_database_is_away(outbox: Outbox) -> None:
    """Nobody could renew it: after a restart or a failover every pod has a whole lease to come back."""
    outbox.push([piece(1, end="")])
    silent(outbox, 3600)
    sql(outbox, "update bluejay_ws.fleet set seen_at = now() - interval '1 hour'")
    assert outbox.reap(15, 2) == 0
    assert outbox.reap(15, 2) == 0


def test_a_pod_that_leaves_is_not_waited_for(outbox: Outbox) -> None:
    """What it has not sealed by then it never will."""
    outbox.push([piece(1, end="")])
    outbox.leave()
    assert outbox.reap(15, 2) == 1


def test_a_pod_that_was_taken_for_dead_goes_on(outbox: Outbox, other: Outbox) -> None:
    """It was only cut off: if nothing has left yet, its call is alive again and loses nothing."""
    outbox.push([piece(1, end="")])
    silent(other, 16)
    other.reap(15, 0)
    assert outbox.push([piece(1, body=b"def", start=3, end="")]) == {rid(1): (6, "live")}
    assert other.claim(LEASE) is None
    outbox.push([piece(1, body=b"", start=6)])
    (report,) = claimed(other).reports
    assert (report.state, report.journal) == ("sealed", b"abcdef")


def test_what_comes_after_the_delivery_is_kept_and_counted(outbox: Outbox, other: Outbox) -> None:
    """A pod that was cut off for longer than its lease: what the report did not hold is kept for a person."""
    outbox.push([piece(1, end="")])
    silent(other, 16)
    other.reap(15, 0)
    call = claimed(other)
    outbox.push([piece(1, body=b"def", start=3, end="")])
    other.settle(call, Settlement("delivered"))
    assert outbox.push([piece(1, body=b"ghi", start=6)]) == {rid(1): (9, "late")}
    assert sql(outbox, "select start, body from bluejay_ws.chunks order by start") == [(3, b"def"), (6, b"ghi")]
    assert outbox.counts() == {"delivered": 1, "reports.late": 1}


def test_a_report_whose_delivery_was_not_heard_of_is_not_held(outbox: Outbox, other: Outbox) -> None:
    """The agent's connection broke at the commit, another pod delivered, the agent asks again: nothing is late."""
    outbox.push([piece(1)])
    other.settle(claimed(other), Settlement("delivered"))
    assert outbox.push([piece(1)]) == {rid(1): (3, "delivered")}
    assert outbox.counts() == {"delivered": 1}


# -- by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "act"), [("parked", "retry"), ("parked", "release"), ("held", "release")])
def test_every_report_of_a_call_can_be_let_go_by_hand(outbox: Outbox, url: str, state: str, act: str) -> None:
    """With the first of them all go: for the others that is no error, even if one deliverer has them by then."""
    outbox.push([piece(1), piece(2)])
    outbox.settle(claimed(outbox), Settlement(state, reason="http.422"))
    admin = PostgresAdmin(url)
    first, second = (entry.name for entry in admin.entries(states=[state]))
    getattr(admin, act)(first)
    call = claimed(outbox)
    assert len(call.reports) == 2
    getattr(admin, act)(second)
    assert outbox.claim(LEASE) is None
    assert outbox.settle(call, Settlement("delivered"))


def test_what_cannot_be_released_now_stays_as_it_was(outbox: Outbox, url: str) -> None:
    """Its call is being sent: after that it can be released, and until then it is held."""
    outbox.push([piece(1)])
    call = claimed(outbox)
    outbox.push([piece(2)])
    sql(outbox, "update bluejay_ws.reports set state = 'held' where report_id = %s", rid(2))
    admin = PostgresAdmin(url)
    (name,) = (entry.name for entry in admin.entries(states=["held"]))
    with pytest.raises(SpoolError, match="is being sent"):
        admin.release(name)
    assert outbox.counts()["reports.held"] == 1
    outbox.settle(call, Settlement("delivered"))
    admin.release(name)
    assert [each.report_id for each in claimed(outbox).reports] == [rid(2)]


def test_a_list_names_what_waits_before_what_was_delivered(
    outbox: Outbox, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million delivered ones are older, and hide nothing."""
    outbox.push([piece(number, str(number)) for number in range(3)])
    for _ in range(2):
        outbox.settle(claimed(outbox), Settlement("delivered"))
    monkeypatch.setattr(postgres_admin, "MOST", 2)
    assert [entry.name.state for entry in PostgresAdmin(url).entries(states=STATES)] == ["ready", "sent"]
    assert outbox.counts(delivered=False) == {"waiting": 1}


# -- the fleet's breaker and rate ---------------------------------------------------------------------------------


def test_three_failures_stop_the_fleet_and_one_probe_tries_again(outbox: Outbox, other: Outbox) -> None:
    """Of all deliverers one may try; what it finds counts for all."""
    outbox.push([piece(1, "a"), piece(2, "b"), piece(3, "c")])
    for _ in range(2):
        outbox.hear(down=True, probe=False, wait=3600)
    assert claimed(outbox).failures == 2
    outbox.hear(down=True, probe=False, wait=3600)
    assert other.claim(LEASE) is None
    sql(outbox, "update bluejay_ws.destinations set open_until = now()")
    probe = claimed(other)
    assert probe.probe
    assert outbox.claim(LEASE) is None  # the probe is on its way
    other.settle(probe, Settlement("delivered"))
    other.hear(down=False, probe=True)
    call = claimed(outbox)
    assert (call.probe, call.failures) == (False, 0)


def test_failures_at_once_count_once_where_the_breaker_is_open(outbox: Outbox) -> None:
    """Eight workers that meet one outage have seen one outage; a probe that fails is news, and the wait grows."""
    for _ in range(8):
        outbox.hear(down=True, probe=False, wait=1)
    assert sql(outbox, "select failures from bluejay_ws.destinations") == [(3,)]
    outbox.hear(down=True, probe=True, wait=1)
    outbox.hear(down=True, probe=True, wait=1)
    wait = "extract(epoch from open_until - clock_timestamp())"
    ((failures, seconds),) = sql(outbox, f"select failures, {wait} from bluejay_ws.destinations")
    assert failures == 5
    assert 3 < seconds <= 4


def test_there_is_no_wave_after_an_outage(outbox: Outbox) -> None:
    """The rate of the whole fleet begins small and doubles each second."""
    outbox.push([piece(number, str(number)) for number in range(200)])
    for _ in range(3):
        outbox.hear(down=True, probe=True, wait=0)
    began = time.monotonic()
    outbox.hear(down=False, probe=True)
    count = sum(outbox.claim(LEASE) is not None for _ in range(60))
    passed = time.monotonic() - began
    assert 1 <= count <= 2 + 5 * 2**passed * passed
    sql(outbox, "update bluejay_ws.destinations set recovered_at = now() - interval '11 seconds'")
    assert all(outbox.claim(LEASE) is not None for _ in range(100))


def test_a_rate_is_the_whole_fleets(outbox: Outbox, other: Outbox) -> None:
    """Two deliverers together do not exceed it."""
    outbox.push([piece(number, str(number)) for number in range(100)])
    began = time.monotonic()
    sql(outbox, "update bluejay_ws.destinations set rate = 10, tokens = 1, filled_at = now()")
    count = sum(each.claim(LEASE) is not None for _ in range(30) for each in (outbox, other))
    passed = time.monotonic() - began
    assert 1 <= count <= 2 + 10 * passed


# -- what is old --------------------------------------------------------------------------------------------------


def test_the_text_of_a_delivered_report_is_gone_at_once(outbox: Outbox) -> None:
    """What remains says that the id is used up, and goes in its time."""
    outbox.push([piece(1), piece(2, "other")])
    outbox.settle(claimed(outbox), Settlement("delivered"))
    assert sql(outbox, "select count(*) from bluejay_ws.chunks") == [(1,)]
    assert outbox.tidy(delivered_days=1, parked_days=30) == 0
    sql(outbox, "update bluejay_ws.calls set settled_at = now() - interval '2 days' where state = 'delivered'")
    sql(outbox, "update bluejay_ws.reports set sealed_at = now() - interval '2 days' where state = 'delivered'")
    assert outbox.tidy(delivered_days=1, parked_days=30) == 2
    assert outbox.counts() == {"waiting": 1}


def test_parked_and_held_reports_go_after_their_time(outbox: Outbox) -> None:
    """With their text; those that wait never do."""
    outbox.push([piece(1), piece(2, "other"), piece(3, "")])
    outbox.settle(claimed(outbox), Settlement("parked", reason="http.422"))
    for table, column in (("calls", "settled_at"), ("reports", "sealed_at")):
        sql(outbox, f"update bluejay_ws.{table} set {column} = now() - interval '31 days'")
    assert outbox.tidy(delivered_days=1, parked_days=30) == 2
    assert outbox.counts() == {"waiting": 1}
    assert sql(outbox, "select count(*) from bluejay_ws.chunks") == [(1,)]


def test_the_next_one_is_found_among_a_hundred_thousand(outbox: Outbox) -> None:
    """By an index, however many wait or were delivered: no plan reads the whole table."""
    sql(
        outbox,
        "insert into bluejay_ws.calls (destination, identity, state, tried, next_at)"
        " select %s, n::text, case when n %% 5 = 0 then 'delivered' else 'waiting' end, n %% 2 = 0,"
        " now() - n * interval '1 ms' from generate_series(1, 20000) n",
        PLATFORM,
    )
    sql(outbox, "analyze bluejay_ws.calls")
    plan = sql(
        outbox,
        "explain select * from bluejay_ws.calls call where call.destination = %s and not call.tried"
        " and call.next_at <= now() and call.state in ('waiting', 'sending')"
        " order by call.next_at desc limit 1 for update skip locked",
        PLATFORM,
    )
    assert "calls_due" in str(plan)
    assert claimed(outbox).identity == "1"


# -- the schema and its roles -------------------------------------------------------------------------------------


def test_migrating_again_changes_nothing(url: str) -> None:
    """It can stand in every deploy."""
    assert postgres.migrate(url) == []


def test_the_check_tells_an_older_schema_from_a_missing_one(url: str, outbox: Outbox) -> None:
    """Each has its words, and both have the command that helps."""
    outbox.check()
    sql(outbox, "delete from bluejay_ws.migrations")
    with pytest.raises(SpoolError, match="older version") as raised:
        outbox.check()
    assert "bluejay-ws migrate" in raised.value.remedy
    sql(outbox, "drop schema bluejay_ws cascade")
    with pytest.raises(SpoolError, match="has no outbox"):
        outbox.check()


def test_roles_can_do_their_work_and_no_more(server: Any, url: str) -> None:
    """An agent's role hands in and reads nothing; a deliverer's delivers; neither may drop a table."""
    agent, deliverer = f"agent_{uuid.uuid4().hex[:8]}", f"deliverer_{uuid.uuid4().hex[:8]}"
    with postgres.connect(url) as owner:
        owner.execute(f'create role "{agent}" login'.encode())
        owner.execute(f'create role "{deliverer}" login'.encode())
    done = postgres.migrate(url, agents=[agent], deliverers=[deliverer])
    assert done == [f"granted {agent} what agents need", f"granted {deliverer} what deliverers need"]
    pod = Outbox(url.replace("bluejay@", f"{agent}@"), PLATFORM)
    worker = Outbox(url.replace("bluejay@", f"{deliverer}@"), PLATFORM)
    with pod.link, worker.link:
        pod.check()
        pod.push([piece(1), piece(2, "b"), piece(3, "live", end="")])
        pod.leave()
        for forbidden in ("select * from bluejay_ws.chunks", "delete from bluejay_ws.calls"):
            with pytest.raises(SpoolError, match="does not allow"):
                sql(pod, forbidden)
        with pytest.raises(SpoolError, match="does not allow"):
            pod.claim(LEASE)
        assert worker.reap(15, 0) == 1
        call = claimed(worker)
        assert worker.renew([call.identity], LEASE) == 1
        assert worker.settle(call, Settlement("delivered"))
        worker.hear(down=False, probe=False)
        worker.tidy(delivered_days=1, parked_days=1)
        with pytest.raises(SpoolError, match="does not allow"):
            sql(worker, "drop table bluejay_ws.calls")
        assert worker.counts() == {"delivered": 1, "waiting": 2}
    with postgres.connect(url) as owner:
        for role in (agent, deliverer):
            owner.execute(f'drop owned by "{role}"'.encode())
            owner.execute(f'drop role "{role}"'.encode())


def test_a_role_that_is_no_plain_name_is_refused(url: str) -> None:
    """A name is written into a statement: it cannot be one."""
    with pytest.raises(ConfigurationError, match="is no plain name"):
        postgres.migrate(url, agents=['x"; drop schema bluejay_ws'])
