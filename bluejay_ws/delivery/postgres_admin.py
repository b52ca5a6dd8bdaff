"""A fleet's outbox as a person sees it: list, export, retry, release, delete, and whether all is well with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.admin import WAITING, Entry
from bluejay_ws.delivery.files import HELD, LIVE, PARKED, READY, SENT, Name
from bluejay_ws.delivery.postgres import CHANNEL, Link, Outbox, connect, explain, shown
from bluejay_ws.exceptions import SpoolError
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST = 2_000
"""So many reports are listed, at the most."""
MOST_READ = 100
SILENT_SECONDS = 30.0
SKEW_SECONDS = 5.0

_STATE = """
    case when report.state in ('held', 'late', 'no_id') then 'held'
         when report.state = 'live' then 'live'
         when report.state = 'delivered' then 'sent'
         when call.state = 'waiting' then 'ready'
         else call.state end
"""
_REASON = """
    case report.state when 'held' then 'already_delivered' when 'late' then 'late' when 'no_id' then 'no_id'
         else coalesce(nullif(call.reason, ''), case report.state when 'lost' then 'process_lost' else '' end) end
"""
_FROM = """
    from bluejay_ws.reports as report left join bluejay_ws.calls as call
    on call.destination = report.destination and call.identity = report.identity
"""


@dataclass(frozen=True, slots=True)
class Health:
    """One thing that was looked at; the fields are those of the doctor's findings."""

    what: str
    state: str
    words: str
    remedy: str = ""


def _entry(row: tuple[Any, ...], data: bytes) -> Entry:
    report_id, identity, state, age, size, reason, detail, attempts = row
    counts = tuple(journal.facts(journal.parse(data).bodies).counts.items())
    return Entry(
        Name(identity or "-", report_id, state), age, size, reason, detail, attempts, counts, busy=state == LIVE
    )


class PostgresAdmin:
    """Look after the outbox in a database; what `bluejay_ws.delivery.admin` is for a directory.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        return shown(self._url)

    def entries(self, *, states: Sequence[str] = WAITING) -> list[Entry]:
        """Return what is in the outbox, at most `MOST`, the oldest first and delivered ones last.

        Where there are more than a hundred, their items are not counted.

        Raises:
            SpoolError: the database cannot be used.
        """
        rows = self._rows(
            f"select * from (select report.report_id, report.identity, {_STATE} as state,"  # noqa: S608 - constants
            " extract(epoch from clock_timestamp() - coalesce(report.sealed_at, report.opened_at))::float8 as age,"
            f" report.received, {_REASON}, coalesce(call.detail, ''), coalesce((call.history ->> 'attempts')::int, 0)"
            f" {_FROM} where report.state <> 'delivered' or %s) as entry"
            " where state = any (%s) order by state = 'sent', age desc limit %s",
            *(SENT in states, list(states), MOST),
        )
        journals = self._journals([row[0] for row in rows]) if len(rows) <= MOST_READ else {}
        return [_entry(row, journals.get(row[0], b"")) for row in rows]

    def _journals(self, report_ids: Sequence[str]) -> dict[str, bytes]:
        return dict(
            self._rows(
                "select report_id, string_agg(body, ''::bytea order by start) from bluejay_ws.chunks"
                " where report_id = any (%s) group by report_id",
                list(report_ids),
            )
        )

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with Link(self._url) as link:
            return link.rows(sql, *values)

    def find(self, wanted: str) -> list[Name]:
        """Return the reports of one call, by its id, or one report, by its report id.

        Raises:
            SpoolError: there is no such call or report.
        """
        rows = self._rows(
            f"select report.report_id, report.identity, {_STATE} {_FROM}"
            " where report.identity = %s or report.report_id = %s order by report.opened_at",
            *(wanted, wanted),
        )
        if not rows:
            raise SpoolError(str(self), f"holds no call or report {wanted!r}", "list what it holds, delivered ones too")
        return [Name(identity or "-", report_id, state) for report_id, identity, state in rows]

    def show(self, name: Name) -> list[bytes]:
        """Return every sound line of a report; nothing of one that was delivered: its text is gone."""
        return journal.parse(self._journals([name.report_id]).get(name.report_id, b"")).bodies

    def export(self, name: Name) -> bytes:
        """Return the report as the platform would get it."""
        return journal.assemble([self.show(name)], simulation_result_id=name.identity)

    def retry(self, name: Name) -> Name:
        """Let a held or parked report be delivered in the usual way; one that may have arrived is looked for first.

        Raises:
            SpoolError: it is neither held nor parked, or the id of its call is used up.
        """
        self._check(name, HELD, PARKED)
        changed = self._rows(  # with the first report of a call all of them go: for the others it is done already
            "with report as (select destination, identity from bluejay_ws.reports"
            " where report_id = %s and state in ('sealed', 'lost')), changed as ("
            "update bluejay_ws.calls as call set state = case call.state when 'held' then 'sending' else 'waiting' end,"
            " history = case call.state when 'held' then '{\"unsure\": true}'::jsonb else '{}'::jsonb end,"
            " next_at = clock_timestamp(), holder = null from report where call.identity = report.identity"
            " and call.destination = report.destination and call.state in ('held', 'parked'))"
            " select 1 from report join bluejay_ws.calls as call using (destination, identity)"
            " where call.state <> 'delivered'",
            name.report_id,
        )
        if not changed:
            remedy = "release it, if it is to be sent all the same: the platform appends it"
            raise SpoolError(f"report {name.report_id}", "belongs to an id that is used up", remedy)
        self._announce()
        return name.become(READY)

    def release(self, name: Name) -> Name:
        """Let a held or parked report be sent without a look, whatever was sent under its id before.

        Raises:
            SpoolError: it is neither held nor parked, or has no id.
        """
        self._check(name, HELD, PARKED)
        changed = self._rows(
            "with report as (select report_id, state, destination, identity from bluejay_ws.reports"
            " where report_id = %s and state in ('held', 'late', 'sealed', 'lost')), changed as ("
            "update bluejay_ws.calls as call set state = 'waiting', history = '{\"released\": true}',"
            " next_at = clock_timestamp(), holder = null from report where call.destination = report.destination"
            " and call.identity = report.identity and call.state <> 'sending' returning report.report_id), sealed as ("
            "update bluejay_ws.reports as report set state = case state when 'lost' then 'lost' else 'sealed' end"
            " from changed where report.report_id = changed.report_id)"
            " select 1 from report where exists (select from changed) or state in ('sealed', 'lost')"
            " and exists (select from bluejay_ws.calls as call where call.destination = report.destination"
            " and call.identity = report.identity and call.history ->> 'released' = 'true')",  # it goes with another
            name.report_id,
        )
        if not changed:
            raise SpoolError(
                f"report {name.report_id}", "cannot be sent: it has no id, or is being sent", "see: outbox"
            )
        self._announce()
        return name.become(READY)

    def delete(self, name: Name) -> None:
        """Remove a report for good; the memory that its id is used up stays.

        Raises:
            SpoolError: its call continues, or it is being sent.
        """
        self._check(name, READY, SENT, HELD, PARKED)
        self._rows(
            "with text as (delete from bluejay_ws.chunks where report_id = %s),"
            " report as (delete from bluejay_ws.reports where report_id = %s returning destination, identity)"
            " delete from bluejay_ws.calls as call using report where call.destination = report.destination"
            " and call.identity = report.identity and call.state <> 'delivered' and not exists (select from"
            " bluejay_ws.reports as other where other.destination = call.destination"
            " and other.identity = call.identity and other.report_id <> %s)",
            *(name.report_id, name.report_id, name.report_id),
        )

    def _check(self, name: Name, *states: str) -> None:
        if name.state not in states:
            raise SpoolError(
                f"report {name.report_id}", f"is {name.state}", f"choose one that is {' or '.join(states)}"
            )

    def _announce(self) -> None:
        self._rows(f"notify {CHANNEL}")

    # -- is all well --------------------------------------------------------------------------------------------

    def health(self) -> Iterator[Health]:
        """Look at everything that a fleet needs of its database."""
        try:
            yield from self._reached()
            yield self._role()
            yield self._notifications()
            yield from self._work()
        except SpoolError as error:
            yield Health("database", "wrong", f"{error.path} {error.reason}", error.remedy)

    def _reached(self) -> Iterator[Health]:
        outbox = Outbox(self._url, "")
        with outbox.link:
            outbox.check()
        ((version, now),) = self._rows(
            "select current_setting('server_version'), extract(epoch from clock_timestamp())::float8"
        )
        yield Health("database", "ok", f"{self} has the outbox (PostgreSQL {version.partition(' ')[0]})")
        skew = time.time() - now
        if abs(skew) > SKEW_SECONDS:
            words = f"this machine is {skew:+.0f} s off the database's clock"
            yield Health(
                "skew", "note", words, "only the database's time counts for delivery; reports carry this one's"
            )

    def _role(self) -> Health:
        ((agent, deliverer),) = self._rows(
            "select bool_or(proname = 'push' and has_function_privilege(oid, 'execute')),"
            " bool_or(proname = 'claim' and has_function_privilege(oid, 'execute'))"
            " from pg_proc where pronamespace = 'bluejay_ws'::regnamespace"
        )
        words = [word for word, may in (("hand over", agent), ("deliver", deliverer)) if may]
        if not words:
            return Health("role", "wrong", "may neither hand over nor deliver", "bluejay-ws migrate --agent ROLE")
        return Health("role", "ok", f"may {' and '.join(words)}")

    def _notifications(self) -> Health:
        """See whether a notification comes back: behind PgBouncer in transaction mode it does not."""
        with connect(self._url) as connection:
            try:
                connection.execute("listen bluejay_ws_doctor")
                with connect(self._url) as other:
                    other.execute("notify bluejay_ws_doctor")
                heard = list(connection.notifies(timeout=2.0, stop_after=1))
            except Exception as error:  # noqa: BLE001 - named as any other
                raise explain(error, self._url) from None
        if heard:
            return Health("notify", "ok", "notifications come through")
        remedy = "reports are found within a second instead; for deliverers use session mode, or no pooler"
        return Health("notify", "note", "no notifications: is this PgBouncer in transaction mode?", remedy)

    def _work(self) -> Iterator[Health]:
        try:
            ((silent, waiting, stuck, oldest),) = self._rows(
                "select extract(epoch from clock_timestamp() - (select seen_at from bluejay_ws.fleet))::float8,"
                " (select count(*) from bluejay_ws.calls where state in ('waiting', 'sending')),"
                " (select count(*) from bluejay_ws.calls where state in ('held', 'parked'))"
                " + (select count(*) from bluejay_ws.reports where state in ('held', 'late', 'no_id')),"
                " (select extract(epoch from clock_timestamp() - min(created_at))::float8 from bluejay_ws.calls"
                " where state in ('waiting', 'sending'))"
            )
        except SpoolError:
            yield Health("outbox", "note", "this role may not read it", "agents' roles need not")
            return
        if silent > SILENT_SECONDS:
            remedy = "start one: bluejay-ws deliver"
            yield Health("deliverer", "wrong", f"none has been at work for {silent:.0f} s", remedy)
        else:
            yield Health("deliverer", "ok", "at work")
        words = f"{waiting} reports wait" + (f", the oldest for {oldest:.0f} s" if oldest else "")
        yield Health(
            "outbox",
            "note" if stuck else "ok",
            f"{words}, {stuck} are held or parked",
            "see: bluejay-ws outbox" if stuck else "",
        )
