"""What was said, as long as it may still be corrected, and where it stands: in the span in which it was heard."""

# ruff: noqa: SLF001 - an utterance and its recorder are two halves of one thing

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from bluejay_ws.hearing.level import BYTES_PER_MS, NEVER
from bluejay_ws.hearing.turns import BACKCHANNEL_MS
from bluejay_ws.hearing.voices import RESUME_MS, SENTENCE_GAP_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.hearing.voices import Segment, Voice

Speaker: TypeAlias = Literal["AGENT", "USER"]

CUT_MARK = "…"  # what stands at the end of a text of which only the beginning was heard
MS_PER_LETTER = 65.0  # how long speech takes, roughly, where nothing is known about it
HUNGRY = 0.6  # texts with less audio than this share of what they should take may get more
ENOUGH = 0.6
"""A text that has had this share of what it should take is spoken when the next text comes before its own audio."""
SNAP = 0.35  # a pause this near to where a sentence should end, as a share of the sentence, is where it ends
JOIN_MS = 400.0  # the agent's audio after a longer pause is another utterance, unless its texts ask for more
TURN_MS = 1_000.0  # the caller's speech after a longer pause is another utterance
WAITS_MS = 5_000.0
"""The audio of an agent's text begins at most this long after the text, if the caller or another text comes between."""
SOUNDS_MS = 200.0  # more text for speech that has text comes at most this long after it
RECENT_MS = 1_000.0  # the first text of the agent's speech comes at most this long after it
FINAL_MS = 2_000.0
"""More text for the caller's speech that has text comes at most this long after it: transcripts come in pieces."""
GIVEN_UP_MS = 1_000.0
"""A text whose audio has not come for so long, and the caller spoke meanwhile, is given up when another one comes."""
REST_MS = 100.0
"""A caller who has been quiet for so long when a text comes has had a turn, which that text may answer."""
YOUNG_MS = 500.0
"""Text that comes when the caller has spoken for less than this belongs to what was said before."""
CUT_MS = 100.0  # what lacks less than this of its audio was heard to its end;
TAIL_MS = 400.0  # or this, where silence was sent in its place: speech synthesis adds some behind what it says
EPSILON_MS = 0.001
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uff65\U00020000-\U0003ffff"
_MARKS = "\u0300-\u036f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u200d\ufe00-\ufe0f"  # belong to the character before
_WORD_GOES_ON = re.compile(rf"(?<=[^\s{_UNSPACED}])[^\s{_UNSPACED}]+|(?<=[{_UNSPACED}])[{_MARKS}]+")
STRETCHES_LIMIT = 8
SEGMENTS_LIMIT = 500


class Heard(Protocol):
    """Who was heard when: what a recorder asks when text comes without offsets."""

    def utterance(self, utterance: Utterance, at_ms: float) -> Stretch:
        """Return the stretch in which a text recorded now was, is or will be heard, the text added to it."""
        ...

    def hears_agent(self) -> bool:
        """Tell whether any speech of the agent's was observed."""
        ...

    def interruption(self, at_ms: float, by: str, source: str) -> None:
        """Learn of an interruption from a provider or a framework."""

    def received(self, frame: bytes | bytearray | memoryview, at_ms: float) -> None:
        """Hear a frame of the caller's that no adapter sees."""

    def sent(self, frame: bytes | bytearray | memoryview, at_ms: float) -> None:
        """Hear a frame of the agent's that no adapter sees."""


class Keeper(Protocol):
    """What an utterance needs of its recorder to change."""

    def _unless_closed(self, what: str, action: Callable[..., None], /, *args: object) -> None: ...
    def _words_of(self, text: object, /) -> str: ...
    def _at(self, ms: float, /) -> int: ...
    def _rewrite(self, utterance: Utterance, /) -> None: ...
    def _withdrawn(self, utterance: Utterance, reason: str, /) -> None: ...


class Utterance:
    """One recorded utterance. It can be changed until its call ends; afterwards a change is ignored and counted.

    `Recorder.agent_said`, `Recorder.user_said` and `Recorder.add_utterance` return it. Keep it only if what
    was said may still change: it needs no closing. Outside a simulation it takes everything and keeps nothing.
    """

    __slots__ = (
        "_as_heard", "_at_ms", "_audio_ms", "_cut_told", "_end_ms", "_filler", "_heard_ms", "_number", "_placed",
        "_recorder", "_share", "_speaker", "_start_ms", "_words",
    )  # fmt: skip

    def __init__(
        self,
        recorder: Keeper | None,
        number: int,
        speaker: Speaker,
        words: Any,
        *,
        at_ms: int = 0,
        filler: bool | None = None,
        audio_ms: float | None = None,
    ) -> None:
        self._recorder = recorder
        self._number = number
        self._speaker: Speaker = speaker
        self._words: Any = words  # all of them
        self._at_ms = at_ms
        self._filler = filler
        self._audio_ms = audio_ms
        self._placed = False
        self._start_ms = self._end_ms = at_ms
        self._share = 1.0  # of its audio, as the call's audio showed
        self._heard_ms: float | None = None  # as `heard` said
        self._as_heard = False  # the words are those that were heard, and no more
        self._cut_told = False  # counted as cut

    def __repr__(self) -> str:
        return f"<Utterance of the {'agent' if self._speaker == 'AGENT' else 'user'}>"

    @property
    def by_user(self) -> bool:
        """Whether the caller's words are meant, as the agent understood them."""
        return self._speaker == "USER"

    @property
    def text(self) -> Any:
        """The words as the report has them. Set it to correct them; an empty text withdraws the utterance.

        What is known of its audio stays true: other words are cut in proportion too, unless they end in ``…``.
        """
        share = self._heard_share
        return self._words if share >= 1.0 or self._as_heard else cut_text(self._words, share)

    @text.setter
    def text(self, text: str) -> None:
        self._change(self._correct, text)

    @property
    def _heard_share(self) -> float:
        """How much of its audio was heard, as far as that is known: 1.0 is all."""
        if self._heard_ms is None or not self._placed:
            return self._share
        whole = self._audio_ms or (self._end_ms - self._start_ms) / self._share
        return min(self._share, self._heard_ms / whole) if whole else self._share

    @property
    def _span(self) -> tuple[int, int]:
        """When it was heard, in milliseconds since the handshake; where that is not known yet, when it was recorded."""
        end = self._end_ms
        if self._heard_share < self._share and self._heard_ms is not None:
            end = min(end, self._start_ms + int(self._heard_ms))
        return self._start_ms, end

    def heard(self, *, ms: float) -> None:
        """Say that only the first ``ms`` milliseconds of its audio were heard; the last word counts.

        The text is cut in proportion, to the end of the word, and ends in ``…``. What lasts no longer than ``ms``
        is not changed; with 0 the utterance was never heard, which is `never_spoken`.
        """
        self._change(self._cut, ms)

    def lasts(self, *, ms: float, text: str | None = None) -> None:
        """Say how long its audio is, once that is known: where it has a start of its own, its end follows from it.

        Args:
            ms: its length.
            text: its words, if they are known better too: what setting `text` does, and one line of the file for both.
        """
        self._change(self._last, ms, text)

    def stands(self, *, start_offset_ms: float, end_offset_ms: float) -> None:
        """Say where it stands, once that is known better; of an utterance that the audio places nothing changes."""
        self._change(self._stand, start_offset_ms, end_offset_ms)

    def never_spoken(self) -> None:
        """Take the utterance out of the report: nobody heard it. Counted as ``dropped.never_spoken``."""
        self._change(self._leave, "never_spoken")

    def withdraw(self) -> None:
        """Take the utterance out of the report: it was recorded in error. Counted as ``dropped.withdrawn``."""
        self._change(self._leave, "withdrawn")

    # -- what its recorder says of it --------------------------------------------------------------------------

    def _begins(self, start_ms: float) -> None:
        """Begin with the speech that it belongs to, as far as that is known."""
        self._start_ms = max(0, min(int(start_ms), self._at_ms))

    def _place(self, start_ms: int, end_ms: int, share: float) -> None:
        self._start_ms, self._end_ms, self._share, self._placed = start_ms, end_ms, share, True

    def _let_go(self) -> None:
        """Change nothing any more: it is out of the report."""
        self._recorder = None

    def _newly_cut(self) -> bool:
        """Return whether it is cut, once: so that it is counted once."""
        cut = self._heard_share < 1.0 and not self._cut_told
        self._cut_told |= cut
        return cut

    # -- what its user says of it ------------------------------------------------------------------------------

    def _change(self, change: Callable[..., None], *args: object) -> None:
        recorder = self._recorder
        if recorder is not None:
            recorder._unless_closed("utterance", change, recorder, *args)

    def _correct(self, recorder: Keeper, text: str) -> None:
        words = recorder._words_of(text)
        if not words:
            return self._leave(recorder, "empty_utterance")
        cut = self._heard_ms is not None or self._share < 1.0
        self._as_heard = cut and words.endswith((CUT_MARK, "..."))
        self._words = words
        return recorder._rewrite(self)

    def _cut(self, recorder: Keeper, ms: float) -> None:
        self._heard_ms = recorder._at(ms)
        if self._heard_ms <= 0:
            return self._leave(recorder, "never_spoken")
        return recorder._rewrite(self) if self._placed else None

    def _last(self, recorder: Keeper, ms: float, text: str | None) -> None:
        length = recorder._at(ms)
        self._audio_ms = float(length)
        if self._placed:
            self._end_ms = self._start_ms + length
        if text is not None:
            self._correct(recorder, text)
        elif self._placed:
            recorder._rewrite(self)

    def _stand(self, recorder: Keeper, start_ms: float, end_ms: float) -> None:
        start = recorder._at(start_ms)
        end = max(start, recorder._at(end_ms))
        if self._placed and (start, end) != (self._start_ms, self._end_ms):
            self._start_ms, self._end_ms = start, end
            recorder._rewrite(self)

    def _leave(self, recorder: Keeper, reason: str) -> None:
        recorder._withdrawn(self, reason)


NOTHING = Utterance(None, 0, "AGENT", "")
"""What is returned where nothing was recorded: it takes everything and keeps nothing."""


def first_words(text: str, length: int) -> str:
    """Return the first ``length`` characters of a text, to the end of the word.

    In writing without spaces (Chinese, Japanese, Thai) that is the end of the character.
    """
    if length <= 0:
        return ""
    rest = _WORD_GOES_ON.match(text, length)
    return text[: length if rest is None else rest.end()].rstrip()


def cut_text(text: str, share: float) -> str:
    """Return the first ``share`` of a text (0 to 1), to the end of the word, with the mark of a cut; "" for none."""
    length = int(len(text) * share)
    if length >= len(text):
        return text
    kept = first_words(text, length)
    return kept if kept == text.rstrip() or not kept or share <= 0 else kept + CUT_MARK


class Stretch:
    """Speech of one side that belongs together, and the texts that were spoken in it.

    Attributes:
        segments: of speech, in order; none while no audio has come.
        texts: in order, each with how much speech had come when it was recorded, in milliseconds.
        cut: what lies after this time was not heard.
        interrupted: whether the other side broke in.
        over: whether nothing more joins it.
        played: whether all of it is known to have been played, though its times end at the cut.
        lead_ms: how much silence was sent before its speech, since its first text or what was said before.
        silence_ms: how much was sent behind its speech, as far as is known.
    """

    __slots__ = ("at", "cut", "interrupted", "lead_ms", "over", "played", "segments", "silence_ms", "texts")

    def __init__(self, at: float, segment: Segment | None = None) -> None:
        self.at = at
        self.segments = [] if segment is None else [segment]
        self.texts: list[tuple[Utterance, float]] = []
        self.cut = NEVER
        self.interrupted = self.over = self.played = False
        self.silence_ms = self.lead_ms = 0.0

    @property
    def end(self) -> float:
        """The end of its speech so far, heard or not; when it was opened if there is none."""
        return self.segments[-1].end if self.segments else self.at

    @property
    def sent_ms(self) -> float:
        """How much of the agent's audio had been sent when its speech had been."""
        last = self.segments[-1]
        return last.at_ms + last.end - last.start

    def spoken_ms(self) -> float:
        """Return how much speech there is."""
        return sum(one.end - one.start for one in self.segments)

    def expected_ms(self) -> float:
        """Return how long its texts should take."""
        return sum(_weight(one) for one, _ in self.texts)

    def add(self, utterance: Utterance) -> None:
        """Add a text that was recorded now."""
        self.texts.append((utterance, self.spoken_ms()))

    def join(self, segment: Segment) -> None:
        """Add speech; of very many segments the last takes it all."""
        if len(self.segments) < SEGMENTS_LIMIT:
            self.segments.append(segment)


class Placed(NamedTuple):
    """Where a text was heard, and how much of it: 1.0 is all, 0.0 nothing."""

    utterance: Utterance
    start_ms: int
    end_ms: int
    share: float


def place(stretch: Stretch) -> list[Placed]:
    """Return where each text of a stretch was heard: in order, by length, pauses being where sentences end.

    What no audio was sent for has the share 0.0, where that can be known: by ``audio_ms``, or because the other side
    broke in on several sentences that were recorded ahead of their audio. A stretch without audio leaves its texts
    where they were recorded, with the share 0.0.
    """
    if not stretch.segments:
        return [Placed(one, one._at_ms, one._at_ms, 0.0) for one, _ in stretch.texts]
    weights = [_weight(one) for one, _ in stretch.texts]
    ends = list(accumulate(one.end - one.start for one in stretch.segments))
    wanted = _wanted(stretch, weights, ends[-1])
    bounds = _snapped([min(one, ends[-1]) for one in wanted], stretch, ends)
    uncut = sum(max(0.0, min(one.end, stretch.cut) - one.start) for one in stretch.segments)
    heard = ends[-1] if stretch.played else uncut
    found = []
    for number, (one, _) in enumerate(stretch.texts):
        start, end = bounds[number], min(bounds[number + 1], heard)
        whole = (bounds[number + 1] if wanted[number + 1] <= ends[-1] + 1.0 else wanted[number + 1]) - start
        begins = max(0, int(min(_time_of(stretch, ends, start, first=True), stretch.cut) + EPSILON_MS))
        stops = max(begins, int(min(_time_of(stretch, ends, end, first=False), stretch.cut) + EPSILON_MS))
        found.append(Placed(one, begins, stops, _share(end - start, whole)))
    return found


def _share(heard: float, whole: float) -> float:
    if heard <= 0.0:
        return 0.0 if whole > 0.0 else 1.0
    return 1.0 if whole - heard < CUT_MS else heard / whole


def _weight(utterance: Utterance) -> float:
    words, length = utterance._words, utterance._audio_ms
    if length is not None:
        return length
    return MS_PER_LETTER * (len(words) if isinstance(words, str) else 1)  # a redaction may leave no text


def _scale(stretch: Stretch, weights: list[float], spoken: float) -> float:
    """Return how much audio a text of weight 1 takes: 1.0 where the weights tell what was not sent."""
    expected = sum(weights) or 1.0
    ahead = len(weights) > 1 and not any(at for _, at in stretch.texts)
    broken = ahead and stretch.interrupted and spoken < HUNGRY * expected
    return 1.0 if broken else spoken / expected


def _of_known_length(stretch: Stretch, lengths: list[float]) -> list[float]:
    """Return the same as `_wanted`, for texts of whose audio the length is known, the silence in it included."""
    found = [0.0]
    sounds = [(one.at_ms, one.at_ms + one.end - one.start) for one in stretch.segments]
    at, last = sounds[0][0] - (stretch.lead_ms if stretch.lead_ms <= TAIL_MS else 0.0), sounds[-1][1]
    for length in lengths:
        speaks = next((begins for begins, ends in sounds if at < ends - EPSILON_MS), at)
        at = speaks if speaks - at > TAIL_MS else at
        until, begun = at + length, at < last
        spoken = sum(max(0.0, min(until, ends) - max(at, begins)) for begins, ends in sounds)
        unsent = max(0.0, until - max(at, last))
        if begun and unsent <= min(stretch.silence_ms, TAIL_MS) + CUT_MS:
            unsent = 0.0
        found.append(found[-1] + spoken + unsent)
        at = until
    whole = sum(ends - begins for begins, ends in sounds)
    if 0.0 < whole - found[-1] <= TAIL_MS:
        found[-1] = whole  # there was less silence before it than it seems
    return found


def _wanted(stretch: Stretch, weights: list[float], spoken: float) -> list[float]:
    """Return how much speech there is before each text and after the last one, by the length of the texts.

    Where texts come before their audio, one after the other, a text begins where the audio stood when it came.
    """
    known = [one._audio_ms is not None for one, _ in stretch.texts]
    if all(known) and sum(weights) >= spoken:
        return _of_known_length(stretch, weights)
    scale, begins = _scale(stretch, weights, spoken), [0]
    for number, (_, at) in enumerate(stretch.texts):
        since = at - stretch.texts[begins[-1]][1]
        if not stretch.texts[0][1] and at < spoken and since >= ENOUGH * sum(weights[begins[-1] : number]) > 0.0:
            begins.append(number)
    if len(begins) == 1 or any(known):
        return [scale * before for before in accumulate(weights, initial=0.0)]
    found = [0.0]
    for first, last in pairwise([*begins, len(weights)]):
        until = spoken if last == len(weights) else stretch.texts[last][1]
        share = (until - found[-1]) / (sum(weights[first:last]) or 1.0)
        found += [found[-1] + share * before for before in accumulate(weights[first:last])]
    return found


def _snapped(bounds: list[float], stretch: Stretch, ends: list[float]) -> list[float]:
    """Move bounds between texts to a pause, or to where the audio stood when a text was recorded, if it is near.

    If none is, a gap will do: rather a long one.
    """
    stops = sorted({*ends[:-1], *(at for _, at in stretch.texts)})
    gaps = _gaps_of(stretch, ends)
    found = [*bounds]
    for number in range(1, len(bounds) - 1):
        reach = SNAP * min(bounds[number] - bounds[number - 1], bounds[number + 1] - bounds[number])
        place = bisect_left(stops, bounds[number])
        near = [stop for stop in stops[max(0, place - 1) : place + 1] if abs(stop - bounds[number]) <= reach]
        if near:
            found[number] = min(near, key=lambda stop: abs(stop - bounds[number]))
        else:
            within = [(abs(at - bounds[number]) - ms, at) for at, ms in gaps if abs(at - bounds[number]) <= reach]
            found[number] = min(within, default=(0.0, bounds[number]))[1]
    return found


def _gaps_of(stretch: Stretch, ends: list[float]) -> list[tuple[float, float]]:
    """Return how much speech there is before each gap, and its length."""
    return [
        (end - (segment.end - begins), until - begins)
        for segment, end in zip(stretch.segments, ends, strict=True)
        for begins, until in segment.gaps
    ]


def _time_of(stretch: Stretch, ends: list[float], spoken: float, *, first: bool) -> float:
    """Return when so much of a stretch's speech had been heard; at a pause or a gap, where it stops or continues."""
    number = bisect_left(ends, spoken + EPSILON_MS if first else spoken - EPSILON_MS)
    if number == len(ends):
        return stretch.segments[-1].end
    before, segment = ends[number - 1] if number else 0.0, stretch.segments[number]
    at = segment.start + max(0.0, spoken - before)
    for begins, over in segment.gaps:
        if begins - EPSILON_MS <= at < over:
            return over if first else begins
    return at


class AgentTexts:
    """Which speech of the agent's a text belongs to: agents record it just before they send its audio, or later.

    1. what has been sent, has no text, and is still to be heard or ended within the last second;
    2. else the texts that wait for their audio;
    3. else what is being heard, or ended within 200 ms, unless the caller spoke since it was sent: texts that come
       sentence by sentence share it;
    4. else what comes next, unless the caller speaks before that, more than five seconds after the text, or has a
       turn that another text answers;
    5. if nothing comes: what ended within the last five seconds, has no text, and was not answered by the caller.
       Else it was never heard.
    """

    __slots__ = ("_agent", "_ahead", "_ahead_ms", "_late_for", "_recent", "_split", "_user")

    def __init__(self, agent: Voice, user: Voice) -> None:
        self._agent, self._user = agent, user
        self._recent: list[Stretch] = []
        self._ahead: Stretch | None = None  # its texts came first
        self._ahead_ms = 0.0  # so much audio had been sent then
        self._late_for: Stretch | None = None  # its texts may have been late, and be of this
        self._split = False

    def begins(self, segment: Segment, at: float) -> None:
        """Note speech that begins, sent at ``at``."""
        last = self._note_silence(segment.at_ms)
        since = self._ahead_ms if self._ahead is not None else 0.0 if last is None else last.sent_ms
        if self._ahead is not None and self._waited_too_long(self._ahead, at):
            self._give_up()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.segments.append(segment)
            self._open(ahead, segment.at_ms - since)
        elif last is not None and not self._split and self._goes_on(last, segment):
            last.join(segment)
        else:
            self._open(Stretch(at, segment), segment.at_ms - since)
        self._split = False
        if sum(not spoken_ms for _, spoken_ms in self._recent[-1].texts) > 1:
            self._agent.watch(SENTENCE_GAP_MS)  # these were recorded ahead

    def _goes_on(self, last: Stretch, segment: Segment) -> bool:
        """Return whether speech belongs with what was said last, though neither a text nor an event says so."""
        pause = segment.start - last.end
        if last.cut < NEVER or pause >= WAITS_MS:
            return False
        if pause < JOIN_MS:
            return True
        if last.texts and _last_one_waits(last):
            return not self._has_spoken_since(last.texts[-1][0]._at_ms)
        enough = HUNGRY if len(last.texts) == 1 else 1.0
        hungry = bool(last.texts) and last.spoken_ms() < enough * last.expected_ms()
        return hungry and not self._has_spoken_since(last.segments[-1].start)

    def _waited_too_long(self, ahead: Stretch, at: float) -> bool:
        """Return whether audio at ``at`` is not that of the texts that wait: the caller has spoken since.

        That is so where they are old, or came late for speech that has no other text.
        """
        late = self._late_for is not None and not self._late_for.texts and self._has_spoken_since(ahead.at)
        return late or (at - ahead.at > WAITS_MS and self._user.began_at > ahead.at)

    def _has_spoken_since(self, at: float) -> bool:
        """Return whether the caller began to speak after ``at``, and has said more than an "mm-hm"."""
        return self._user.began_at > at and self._user.loud_until - self._user.began_at >= BACKCHANNEL_MS

    def _note_silence(self, sent_ms: float) -> Stretch | None:
        """Note how much was sent behind the last speech so far, and return that."""
        last = self._recent[-1] if self._recent else None
        if last is not None:
            last.silence_ms = sent_ms - last.sent_ms
        return last

    def _open(self, stretch: Stretch, lead_ms: float) -> None:
        stretch.lead_ms = lead_ms
        for gone in self._recent[: 1 - STRETCHES_LIMIT]:
            gone.over = True
        self._recent = [*self._recent[1 - STRETCHES_LIMIT :], stretch]

    def split(self) -> None:
        """Note that what the agent sends now is another utterance."""
        self._split = True

    def interrupted(self, at: float) -> None:
        """Note that the caller began to speak while the agent was heard, or soon after."""
        for one in self._recent:
            if one.end > at - JOIN_MS:
                one.interrupted = True

    def cut(self, at: float) -> None:
        """Note that nothing queued is heard after ``at``."""
        for one in self._recent:
            if one.end > at:
                one.cut = min(one.cut, at)
                for segment in one.segments:
                    segment.cut = min(segment.cut, at)

    def close(self, now: float, confirmed: float) -> None:
        """End the call at ``now``: what is queued beyond was not heard, unless it is known to have been played."""
        self._note_silence(self._agent.bytes / BYTES_PER_MS)
        self._give_up()
        for one in self._recent:
            one.played = one.end <= confirmed
        self.cut(now)

    def add(self, utterance: Utterance, at: float) -> Stretch:
        """Add a text that was recorded at ``at`` to its stretch, and return that."""
        found = self._stretch_of_text(at)
        found.add(utterance)
        if found.segments:
            self._agent.watch()
        return found

    def _stretch_of_text(self, at: float) -> Stretch:
        last = self._note_silence(self._agent.bytes / BYTES_PER_MS)
        for one in self._recent:
            one.over = one.over or at - one.end > WAITS_MS
        if self._split:
            return self._next(at)
        untold = next((one for one in self._recent if self._asks_for_text(one, at)), None)
        if untold is not None:
            return untold
        if self._ahead is not None and not self._is_past(self._ahead, at):
            return self._ahead
        if last is None or last.cut <= at or at - last.end > SOUNDS_MS or self._answers(last.segments[-1], at):
            return self._next(at)
        return last

    def _asks_for_text(self, one: Stretch, at: float) -> bool:
        """Return whether speech has no text, and is so recent that one at ``at`` is its, and no answer to a caller."""
        if one.texts or one.cut <= at - RECENT_MS or at - one.end > RECENT_MS:
            return False
        return at - one.cut < SOUNDS_MS or not self._had_a_turn(one.segments[-1].start, at)

    def _answers(self, segment: Segment, at: float) -> bool:
        """Return whether a text at ``at`` answers a caller who spoke after a segment was sent, or broke in on it."""
        broke_in = self._user.began_at > segment.sent_from and at - segment.sent_until > RESUME_MS
        return broke_in or self._user.began_at > segment.sent_until

    def _next(self, at: float) -> Stretch:
        """Return the stretch of the texts that wait for their audio."""
        if self._ahead is None or self._is_past(self._ahead, at):
            self._give_up()
            self._ahead, self._ahead_ms = Stretch(at), self._agent.bytes / BYTES_PER_MS
            last = self._recent[-1] if self._recent else None
            late = last is not None and 0.0 <= at - last.end <= WAITS_MS and not self._had_a_turn(last.end, at)
            self._late_for = last if late else None
        return self._ahead

    def _is_past(self, ahead: Stretch, at: float) -> bool:
        """Return whether a text at ``at`` does not belong with those that wait: it is late, or answers the caller."""
        waited = at - ahead.at
        return waited > WAITS_MS or (waited > GIVEN_UP_MS and self._has_spoken_since(ahead.at))

    def _had_a_turn(self, since: float, at: float) -> bool:
        """Return whether by ``at`` the caller had spoken after ``since``, and had stopped again."""
        return self._has_spoken_since(since) and at - self._user.loud_until >= REST_MS

    def _give_up(self) -> None:
        """Let no audio come any more for the texts that wait: they were late, if what was said before has none."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        ahead.over = True
        last = self._late_for
        if last is not None and not last.texts:
            ahead.segments, ahead.lead_ms, ahead.silence_ms = last.segments, last.lead_ms, last.silence_ms
            ahead.cut, last.texts = last.cut, ahead.texts
            self._recent[self._recent.index(last)] = ahead


def _last_one_waits(stretch: Stretch) -> bool:
    """Return whether all the speech is that of earlier texts, and the last was recorded ahead of its own audio."""
    texts, spoken = stretch.texts, stretch.spoken_ms()
    before = sum(_weight(one) for one, _ in texts[:-1])
    return not texts[0][1] and texts[-1][1] >= spoken - EPSILON_MS and spoken >= ENOUGH * before > 0.0


class CallerTexts:
    """Which speech of the caller's a text belongs to: transcripts come during the speech or some time after it.

    1. what was said last and has no text, unless the caller is speaking again for more than half a second;
    2. else what is being said;
    3. else what ended within the last two seconds, although it has text: transcripts come in pieces;
    4. else the moment at which it became known.
    """

    __slots__ = ("_before", "_last", "_started")

    def __init__(self) -> None:
        self._before: Stretch | None = None
        self._last: Stretch | None = None
        self._started = 0.0

    def begins(self, segment: Segment, *, agent_since: bool) -> None:
        """Note speech that begins."""
        last = self._last
        self._started = segment.start
        if last is not None and not last.texts and not agent_since and segment.start - last.end < TURN_MS:
            last.join(segment)
            return
        if self._before is not None:
            self._before.over = True
        self._before, self._last = last, Stretch(segment.start, segment)

    def add(self, utterance: Utterance, at: float, *, speaks: bool) -> Stretch:
        """Add a text that was recorded at ``at`` to its stretch, and return that; a new one if nobody was heard."""
        found = self._stretch_of_text(at, speaks=speaks)
        found.add(utterance)
        return found

    def _stretch_of_text(self, at: float, *, speaks: bool) -> Stretch:
        last, before = self._last, self._before
        if last is None:
            return Stretch(at)
        if speaks and at - self._started < YOUNG_MS:
            if len(last.segments) > 1:  # it only paused: the text is for what came before the pause
                young = last.segments.pop()
                self._before, self._last = last, Stretch(young.start, young)
                return last
            if before is not None and not before.texts:
                return before
        if not last.texts or speaks or at - last.end <= FINAL_MS:
            return last
        return Stretch(at)
