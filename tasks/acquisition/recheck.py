"""Recheck: whether the clips that we hold are still at their source, and marks for those that are gone.

A source is queried on the same lanes as for a download, but without fetching media if it can answer without them. Marks
are kept in the state folder, one line per answer, so that a kill loses at most one. Only a take-down acts on them, and
only on request.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas import layout
from schemas.files import append_lines, opened_line, sealed_line, write_text
from schemas.manifest import read_manifest
from schemas.outcome import ItemError, Outcome, Transient
from schemas.storage import make_folder
from tasks.acquisition.fetching import DownloadConfig, DownloadContext, LaneWorkers, Segments, through_lanes
from tasks.parts import Stage
from tasks.sources import Fetch
from tasks.transport.lanes import moment
from tasks.transport.templates import origin

MOST = 500  # clips at a time: at YouTube's pace of 240 videos an hour, two hours
TURN_S = 86_400.0  # nothing waits for these answers
TAKEN_DOWN = frozenset(
    {"removed", "private", "terminated", "copyright"}
)  # other classes may be the fault of the lane
CONFIRMED = 2  # the number of consecutive rechecks that must find a video gone


@dataclass(frozen=True)
class Mark:
    """What a source last said about a video that we hold."""

    video_id: str
    asked_at: str  # ISO time
    reason: str = ""  # the class of its loss; empty if it is there
    detail: str = ""
    sightings: int = 0  # the number of consecutive rechecks that found it gone

    @property
    def is_confirmed(self) -> bool:
        """Whether more than one recheck has found it gone."""
        return self.sightings >= CONFIRMED


FIELDS = tuple(one.name for one in fields(Mark))
NEEDED = {"video_id", "asked_at"}  # of a line


@dataclass
class Rechecked:
    """The results of a recheck."""

    num_there: int = 0
    gone: list[Mark] = field(default_factory=list)
    unclear: Counter[str] = field(default_factory=Counter)  # class -> how many answers that mark nothing
    num_unasked: int = 0  # because every lane was closed


@dataclass(frozen=True)
class Answer:
    """What one lane learned about one video; an empty reason means that it is there."""

    video_id: str
    asked_at: str
    lane: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Askers(LaneWorkers):
    """The workers of a lane that looks videos up and fetches none."""

    what = "recheck"
    takes_media = False

    def video(self, fetch: Fetch, segments: Segments) -> Answer:
        """What the source says about one video. Raises LaneClosed."""
        video_id = segments[0][1]["video_id"]
        with self._tracking(video_id), TemporaryDirectory(dir=self.context.state / layout.SCRATCH) as scratch:
            try:
                self._fetch(fetch, video_id, Path(scratch))
            except (ItemError, Transient) as error:
                return self._answer(video_id, error.reason, error.detail)
        self.lane.succeeded()
        return self._answer(video_id)

    def _answer(self, video_id: str, reason: str = "", detail: str = "") -> Answer:
        return Answer(video_id, moment(self.context.clock.now_s()), self.lane.config.name, reason, detail)


def longest_unasked(
    root: Path, state: Path, source: str, *, most: int = MOST, marked_first: bool = False
) -> dict[str, Segments]:
    """The segments by video of about `most` clips that came from `source`, those checked least recently first.

    If `marked_first`, those that were gone at the last check come before them.
    """
    marks = read_marks(state)
    order: dict[str, tuple[bool, str]] = {}
    held: dict[str, Segments] = {}
    columns = ("key", "video_id", "outcome", "source", "tried_at")
    for part, row in read_manifest(root / layout.CLIPS, columns):
        if row["outcome"] != Outcome.OK or row["source"] != origin(source):
            continue
        video_id = row["video_id"]
        mark = marks.get(video_id, Mark(video_id, ""))
        is_later = not (marked_first and mark.sightings)
        order[video_id] = (is_later, max(row["tried_at"] or "", mark.asked_at))
        held.setdefault(video_id, []).append((part, row))
    chosen: dict[str, Segments] = {}
    for video_id in heapq.nsmallest(most, order, key=lambda one: (order[one], one)):
        if sum(map(len, chosen.values())) >= most:
            break
        chosen[video_id] = held[video_id]
    return chosen


def ask(
    stage: Stage, videos: Mapping[str, Segments], config: DownloadConfig, context: DownloadContext
) -> Rechecked:
    """Checks the videos at the source, and marks those that are gone.

    A video counts as gone only if the same lane finds another one in the same run: a host that has lost all is broken.
    """
    state = context.state
    make_folder(state / layout.SCRATCH)
    _compact(state)
    done = Rechecked(num_unasked=len(videos))
    unvouched: dict[str, list[Answer]] = {}
    sound: set[str] = set()
    for answer in through_lanes(Askers, stage, videos, replace(config, turn_s=TURN_S), context):
        done.num_unasked -= 1
        if not answer.reason:
            sound.add(answer.lane)
            done.num_there += 1
            _keep(state, Mark(answer.video_id, answer.asked_at))
        elif answer.reason in TAKEN_DOWN:
            unvouched.setdefault(answer.lane, []).append(answer)
        else:
            done.unclear[answer.reason] += 1
        for lane in sound & unvouched.keys():
            done.gone += _mark(state, unvouched.pop(lane))
    done.unclear.update(one.reason for answers in unvouched.values() for one in answers)
    return done


def _mark(state: Path, answers: Sequence[Answer]) -> list[Mark]:
    before = read_marks(state)
    marks = []
    for one in answers:
        sightings = 1 + (before[one.video_id].sightings if one.video_id in before else 0)
        marks.append(Mark(one.video_id, one.asked_at, one.reason, one.detail, sightings))
        _keep(state, marks[-1])
    return marks


def read_marks(state: Path) -> dict[str, Mark]:
    """What the sources last said about each video that was checked; torn and changed lines are skipped."""
    path = state / layout.RECHECKS
    marks = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        stored = opened_line(line, FIELDS)
        if stored and stored.keys() >= NEEDED:
            mark = Mark(**{name: stored[name] for name in FIELDS if name in stored})
            marks[mark.video_id] = mark
    return marks


def gone(state: Path) -> list[Mark]:
    """The marks of the videos that their source no longer has, as far as they were checked, by id."""
    return sorted((one for one in read_marks(state).values() if one.sightings), key=lambda one: one.video_id)


def drop_marks(state: Path, video_ids: Collection[str]) -> None:
    """Removes the marks of videos that are taken down."""
    marks = read_marks(state)
    if marks.keys() & set(video_ids):
        _write(state, [one for video_id, one in marks.items() if video_id not in video_ids])


def _keep(state: Path, mark: Mark) -> None:
    append_lines(state / layout.RECHECKS, [sealed_line(asdict(mark))])


def _compact(state: Path) -> None:
    """Leaves one line per video."""
    if marks := read_marks(state):
        _write(state, list(marks.values()))


def _write(state: Path, marks: Sequence[Mark]) -> None:
    write_text(state / layout.RECHECKS, "".join(f"{sealed_line(asdict(one))}\n" for one in marks))
