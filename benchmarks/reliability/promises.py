"""One guard for each promise: what was promised, which function keeps it, and which tests must miss it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GUARDS", "STAND_INS", "Guard"]


class Guard(NamedTuple):
    """One promise, what keeps it, and who must notice its absence.

    Attributes:
        promise: what users were promised.
        target: ``module:name`` or ``module:Class.name``; the modules are those of `bluejay_ws`.
        instead: what the function does when the guard is out, one of `STAND_INS`.
        tests: tests for pytest, by their ids.
    """

    promise: str
    target: str
    instead: str
    tests: str


def _sends(*_: object) -> Any:
    return import_module("bluejay_ws.delivery.attempt").Move.SEND, 0.0


def _parks(reason: str, *_: object, **__: object) -> Any:
    outcomes = import_module("bluejay_ws.delivery.outcomes")
    return outcomes.Decision(outcomes.State.PARKED, None, outcomes.Platform.UP, reason)


def _not_sent(*_: object, **__: object) -> Any:
    outcomes = import_module("bluejay_ws.delivery.outcomes")
    return outcomes.Failure(outcomes.Phase.NOT_SENT, "unknown")


def _plainly(_: object, action: Callable[..., None], *args: Any) -> None:
    action(*args)


def _log(_: object, level: int, text: str, *args: object, **__: object) -> None:
    import_module("bluejay_ws.log").logger.log(level, text, *args)


STAND_INS: dict[str, Callable[..., Any]] = {
    "returns None": lambda *_, **__: None,
    "returns True": lambda *_, **__: True,
    "returns False": lambda *_, **__: False,
    "returns nothing found": lambda *_, **__: [],
    "returns no text": lambda *_, **__: "",
    "returns one text for all": lambda *_, **__: "platform",
    "returns its argument": lambda value, *_, **__: value,
    "returns its last argument": lambda *values, **__: values[-1],
    "returns zero": lambda *_, **__: 0,
    "returns much": lambda *_, **__: 2**30,
    "shows what it hides": lambda self: self.reveal(),
    "sends without a look": _sends,
    "parks": _parks,
    "says that nothing was sent": _not_sent,
    "lets errors pass": _plainly,
    "logs without care": _log,
    "counts from now": lambda self, timeout: self._clock() + timeout,
    "runs without care": lambda self: self._waiting.popleft()[1](),
    "believes every line": lambda one: one.rpartition(b",")[0] or None,
}

GUARDS: tuple[Guard, ...] = (
    # -- what was recorded is what is reported
    Guard(
        "What is recorded does not change afterwards",
        "bluejay_ws.wire.encode:snapshot",
        "returns its argument",
        "tests/wire/test_careful.py::test_a_snapshot_outlives_changes",
    ),
    Guard(
        "A text that a database refuses never reaches the platform",
        "bluejay_ws.wire.encode:clean",
        "returns its argument",
        "tests/wire/test_careful.py::test_a_clean_text_can_be_stored_anywhere",
    ),
    Guard(
        "A signal handler that ends the process is obeyed, a value that does so is not",
        "bluejay_ws.interrupts:_from_signal_handler",
        "returns False",
        "tests/wire/test_careful.py::test_a_signal_handler_that_ends_the_process_is_obeyed",
    ),
    Guard(
        "A flipped bit costs its own line only: each line has a checksum",
        "bluejay_ws.wire.journal:_sound",
        "believes every line",
        "tests/wire/test_journal.py::test_a_flipped_bit_damages_its_own_line_only",
    ),
    Guard(
        "A line whose checksum is right and whose shape is not spoils no report",
        "bluejay_ws.wire.journal:is_ours",
        "returns True",
        "tests/wire/test_shapes.py::test_another_shape_is_not_ours",
    ),
    Guard(
        "A half-written line takes no other with it",
        "bluejay_ws.wire.journal:_salvage",
        "returns None",
        "tests/wire/test_journal.py::test_a_line_glued_to_a_torn_one_is_saved",
    ),
    Guard(
        "A call near its share of memory cuts outputs, never names",
        "bluejay_ws.recorder:Recorder._allowance",
        "returns much",
        "tests/test_recorder.py::test_a_call_near_its_share_of_memory_cuts_outputs_but_keeps_names",
    ),
    Guard(
        "What comes after the end of a call is dropped and counted",
        "bluejay_ws.recorder:Recorder._unless_closed",
        "returns None",
        "tests/test_recorder.py::test_after_the_end_everything_is_dropped_and_counted",
    ),
    Guard(
        "Redaction comes before anything is kept",
        "bluejay_ws.recorder:Recorder._redacted",
        "returns its last argument",
        "tests/test_recorder.py::test_redaction_comes_before_anything_is_kept",
    ),
    Guard(
        "An utterance can be corrected until the call ends",
        "bluejay_ws.hearing.utterances:Utterance._correct",
        "returns None",
        "tests/test_utterance_handles.py::test_an_utterance_can_be_corrected_until_the_call_ends",
    ),
    # -- the right call
    Guard(
        "Two values of the id header that differ are no id",
        "bluejay_ws.wire.ids:usable_id",
        "returns its argument",
        "tests/wire/test_wire.py",
    ),
    Guard(
        "A second start with another id is refused",
        "bluejay_ws.call:Call._refuse_another",
        "returns None",
        "tests/test_id_places.py::test_a_second_start_with_another_id_is_refused_and_told_once",
    ),
    Guard(
        "A caller who does not answer the close frame holds no report",
        "bluejay_ws.call:Call._end_unless_answered",
        "returns None",
        "tests/test_call.py::test_the_caller_s_answer_to_a_close_frame_is_awaited_for_half_a_second",
    ),
    Guard(
        "A connection that ends while its handler is busy does not hold the report",
        "bluejay_ws.call:Call._end_unless_resumed",
        "returns None",
        "tests/test_call.py::test_a_busy_handler_is_not_waited_for_longer",
    ),
    Guard(
        "The report says how the connection ended",
        "bluejay_ws.outcome:_of_connection",
        "returns None",
        "tests/test_outcome.py::test_the_connection_says_how_a_call_ended",
    ),
    Guard(
        "A cancelled handler is no failure of the agent's",
        "bluejay_ws.outcome:Left.while_open",
        "returns its argument",
        "tests/test_outcome.py::test_while_the_connection_is_open_only_a_cancelled_handler_did_not_fail",
    ),
    # -- the call never notices
    Guard(
        "An error on the way of a frame is counted, and the frame passes",
        "bluejay_ws.servers.base:Watched.guarded",
        "lets errors pass",
        "tests/servers/test_aiohttp.py::test_an_error_of_ours_reaches_nobody",
    ),
    Guard(
        "A log handler that raises does not reach the agent",
        "bluejay_ws.log:say",
        "logs without care",
        "tests/reliability/test_agent_never_notices.py::test_a_log_handler_that_raises_is_the_agents_own_affair_but_not_in_its_calls",
    ),
    Guard(
        "One interruption is one event, whoever notices it",
        "bluejay_ws.hearing.turns:Turns._claimed",
        "returns nothing found",
        "tests/hearing/test_cases.py",
    ),
    Guard(
        "Text whose audio the end of the call cut is cut",
        "bluejay_ws.hearing.utterances:AgentTexts.cut",
        "returns None",
        "tests/hearing/test_cases.py",
    ),
    # -- the key, the account, the destination
    Guard(
        "The key shows itself in no log, repr or traceback",
        "bluejay_ws.settings:Secret.__repr__",
        "shows what it hides",
        "tests/test_settings.py::test_a_secret_shows_itself_to_nobody_who_does_not_ask",
    ),
    Guard(
        "A key that cannot stand in a header is like a missing one",
        "bluejay_ws.settings:Secret.fits_a_header",
        "returns True",
        "tests/test_settings.py::test_a_key_that_cannot_stand_in_a_header_is_like_a_missing_one",
    ),
    Guard(
        "Reports without a key, and those of tests, are kept apart",
        "bluejay_ws.settings:_why_apart",
        "returns no text",
        "tests/test_settings.py::test_a_test_reports_to_no_account_but_to_the_local_platform",
    ),
    Guard(
        "A report goes only to the platform it was recorded for",
        "bluejay_ws.settings:destination_of",
        "returns one text for all",
        "tests/test_settings.py::test_each_platform_has_a_place_of_its_own",
    ),
    Guard(
        "A call of the local caller is reported to no account",
        "bluejay_ws.client:Bluejay._is_foreign",
        "returns False",
        "tests/test_client.py::test_a_call_of_the_local_caller_is_not_reported_to_an_account",
    ),
    # -- sent once
    Guard(
        "After an unknown outcome the platform is looked at before anything is sent again",
        "bluejay_ws.delivery.attempt:Delivery.next_move",
        "sends without a look",
        "tests/delivery/test_sender.py::test_after_any_fault_one_report_is_accepted",
    ),
    Guard(
        "How far a request came decides whether it may be sent again",
        "bluejay_ws.delivery.http:_failure",
        "says that nothing was sent",
        "tests/delivery/test_http.py::test_without_an_answer_it_counts_how_far_the_report_came",
    ),
    Guard(
        "A used id takes no second report",
        "bluejay_ws.delivery.attempt:Attempt._put_away_late_ones",
        "returns None",
        "tests/delivery/test_admin.py::test_retrying_a_second_report_does_not_double_the_first",
    ),
    Guard(
        "Another process's running call is left alone",
        "bluejay_ws.delivery.processlock:lives",
        "returns False",
        "tests/delivery/test_processlock.py::test_it_lives_as_long_as_it_is_held",
    ),
    Guard(
        "A forked child owns nothing of its parent's",
        "bluejay_ws.delivery.sender:Sender.reset_after_fork",
        "returns None",
        "tests/delivery/test_sender.py::test_a_forked_child_owns_nothing_and_works",
    ),
    Guard(
        "What is a link, a pipe or somebody else's is no report",
        "bluejay_ws.delivery.files:_check",
        "returns zero",
        "tests/delivery/test_files.py",
    ),
    # -- nothing waits for a person while a machine could go on
    Guard(
        "A gateway's refusal parks nothing by itself",
        "bluejay_ws.delivery.outcomes:_unjudged",
        "parks",
        "tests/delivery/test_outcomes.py::test_a_gateways_refusal_parks_only_what_others_got_past",
    ),
    Guard(
        "Only the API's own words refuse a report for good",
        "bluejay_ws.delivery.outcomes:_is_api_answer",
        "returns True",
        "tests/delivery/test_outcomes.py::test_each_outcome_of_a_first_post_has_its_row",
    ),
    Guard(
        "Retry-After is believed within bounds",
        "bluejay_ws.delivery.http:retry_after",
        "returns its argument",
        "tests/delivery/test_fuzz_answers.py::test_seconds_are_believed_up_to_the_ceiling",
    ),
    Guard(
        "A platform that is down is asked now and then",
        "bluejay_ws.delivery.breaker:Breaker._failed",
        "returns None",
        "tests/reliability/test_outage.py::test_an_hour_without_the_platform_loses_nothing_and_floods_nobody",
    ),
    Guard(
        "What has waited comes back as a ramp",
        "bluejay_ws.delivery.breaker:Breaker._take_token",
        "returns zero",
        "tests/reliability/test_outage.py::test_a_crowd_that_ended_meanwhile_is_no_wave_and_holds_nobody_up",
    ),
    Guard(
        "A compressed answer is understood, up to a limit",
        "bluejay_ws.delivery.http:_unpacked",
        "returns its argument",
        "tests/delivery/test_http.py",
    ),
    Guard(
        "A thread that could not be started is started later",
        "bluejay_ws.delivery.sender:BaseSender.try_again",
        "returns None",
        "tests/delivery/test_sender.py::test_where_no_thread_can_be_started_it_is_tried_again",
    ),
    Guard(
        "A worker that could not be started is started later",
        "bluejay_ws.delivery.workers:Workers.leave",
        "returns None",
        "tests/delivery/test_sender.py::test_a_worker_that_cannot_be_started_once_is_started_later",
    ),
    Guard(
        "An ending that raises anything ends no thread",
        "bluejay_ws.delivery.workers:Finisher._run_one",
        "runs without care",
        "tests/delivery/test_sender.py::test_an_ending_that_raises_anything_ends_no_thread",
    ),
    # -- bounds
    Guard(
        "Reports in memory have a bound",
        "bluejay_ws.delivery.queue:Queue._evict",
        "returns nothing found",
        "tests/delivery/test_sender.py::test_too_many_reports_in_memory_cost_the_oldest",
    ),
    Guard(
        "Closing and the end of the process share one budget",
        "bluejay_ws.delivery.workers:Budget.until",
        "counts from now",
        "tests/delivery/test_sender.py::test_closing_and_the_end_of_the_process_share_one_budget",
    ),
    Guard(
        "A directory that cannot keep reports is refused",
        "bluejay_ws.delivery.filesystem:check",
        "returns None",
        "tests/delivery/test_filesystem.py::test_a_network_file_system_is_refused",
    ),
    Guard(
        "A disk that fails in the middle of a call is said aloud",
        "bluejay_ws.delivery.livefile:LiveFile._tell",
        "returns None",
        "tests/test_call.py::test_a_file_that_breaks_in_the_middle_costs_nothing",
    ),
    Guard(
        "The spool keeps its bounds",
        "bluejay_ws.delivery.spool:Spool.tidy",
        "returns None",
        "tests/delivery/test_sender.py::test_the_spool_is_looked_after",
    ),
    Guard(
        "A file that is dated in the future is recovered",
        "bluejay_ws.delivery.spool:Spool._age",
        "returns nothing found",
        "tests/delivery/test_files.py::test_a_file_of_the_future_counts_as_written_when_it_was_first_seen",
    ),
)
