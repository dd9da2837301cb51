"""A round: a build that is under way, an accident, and what does the rest."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from real_servers import PATIENCE_S, wait_for

from benchmarks.chaos.accidents import OUTGROWN, Accident, MissedError, can_outgrow, possible
from benchmarks.chaos.ground import FINAL, STAGE_NAMES, Ground, wait
from benchmarks.chaos.journal import Round
from benchmarks.chaos.laws import broken_laws, size_of

EVERY = 4  # which round is over the form that is more than one machine
POLL_S = 0.02
ASK_S = 1.0  # between two questions to the server
WITHIN_S = {"download": 0.5, "extract": 0.8}  # of a stage's beginning, until the accident
AT_ONCE_S = 0.05  # for the others, which are short
SILENT_S = (
    540.0  # after which a run without a sign of life is declared dead: what stops it for good is found so
)
MISSES = 2  # of an accident, after which the others come first
ONE = "one machine"
SEVERAL = "several machines"
BY_SCHEDULE = 0.7  # of the rounds; the others are finished by a plain build


@dataclass(frozen=True)
class Draw:
    """What the dice say of a round."""

    number: int
    is_outgrown: bool
    accident: Accident
    rng: random.Random


def drawn(seed: int, before: Sequence[Round], victim: str | None = None) -> Draw:
    """The round after those: every accident hits once before one comes again, unless it misses again and again."""
    number = len(before)
    decks = {
        SEVERAL: [one for one in OUTGROWN if victim in (None, one.victim)] if can_outgrow() else [],
        ONE: [one for one in possible() if victim in (None, one.victim)],
    }
    is_turn = number % EVERY == EVERY - 1 or not decks[ONE]
    where = SEVERAL if is_turn and decks[SEVERAL] else ONE
    deck = decks[where]
    tries = Counter((one.where, one.victim, one.how) for one in before)
    hits = Counter((one.where, one.victim, one.how) for one in before if one.stage)

    def turn(card: Accident) -> int:
        name = (where, card.victim, card.how)
        return max(hits[name], tries[name] - MISSES)

    least = min(map(turn, deck))
    accident = random.Random(f"{seed}-{number}-deck").choice([one for one in deck if turn(one) == least])
    return Draw(number, where == SEVERAL, accident, random.Random(f"{seed}-{number}"))


def play(ground: Ground, draw: Draw) -> Round:
    """Plays one round on a ground that is served and whole."""
    began = time.monotonic()
    where = SEVERAL if draw.is_outgrown else ONE
    one = Round(draw.number, where, draw.accident.victim, draw.accident.how)
    ground.serve_with_clock(has_clock=draw.accident.needs_clock)
    ground.grow()
    runs = [ground.begin()]
    before = {}
    try:
        with ExitStack() as accidents:
            for stage in _moments(ground, runs[0], draw):
                before = ground.parts()
                one.again = len(ground.missing(stage))
                with suppress(MissedError):
                    accidents.enter_context(draw.accident.happen(ground, runs[0], draw.rng))
                    one.stage = stage
                    break
            _await_end(ground, runs[0])
        _finish(ground, draw, runs, one)
    except AssertionError as error:
        one.broken.append(str(error)[-1000:])
    after = ground.parts()
    one.twice = sum(after.get(path) != written for path, written in before.items())
    one.state_mb = round(size_of(ground.state) / 1e6, 1)
    one.seconds = round(time.monotonic() - began, 1)
    return one


def _moments(ground: Ground, run: str, draw: Draw) -> Iterator[str]:
    """Moments of the build at which the dice want the accident, as the stage that is under way then."""
    stages = draw.accident.stages or STAGE_NAMES
    target = STAGE_NAMES.index(draw.rng.choice(stages))
    is_near = False
    for stage in _stages(ground, run):
        if STAGE_NAMES.index(stage) < target or stage not in stages:
            continue
        if is_near:
            yield stage
        else:
            is_near = True
            wait(draw.rng.uniform(0.0, WITHIN_S.get(stage, AT_ONCE_S)))


def _stages(ground: Ground, run: str) -> Iterator[str]:
    """The stage that is under way, again and again, until the run has ended."""
    while ground.state_of(run) not in FINAL:
        wait(ASK_S)
        while ground.flow(run):  # without a question to the server, during which a short stage would pass
            if stage := ground.stage():
                yield stage
            wait(POLL_S)


def _await_end(ground: Ground, run: str) -> None:
    """Waits until a run has ended, or can't end because nobody serves it."""
    within_s = SILENT_S + PATIENCE_S
    wait_for(lambda: not ground.is_served or ground.state_of(run) in FINAL, "the end of the run", within_s)


def _is_over(ground: Ground, run: str) -> bool:
    ground.supervise()
    return ground.state_of(run) in FINAL


def _finish(ground: Ground, draw: Draw, runs: list[str], one: Round) -> None:
    """Has the rest done, and looks at the laws. Raises AssertionError where something does not end."""
    ground.serve_again()
    wait_for(lambda: _is_over(ground, runs[0]), "the report of the run that was hit", SILENT_S + PATIENCE_S)
    if not draw.accident.holds_lease:
        wait_for(lambda: not ground.is_held("build"), "the end of the build that was hit")
    one.state = ground.state_of(runs[0])
    if draw.accident.later_s:
        ground.set_clock(draw.accident.later_s)
    if draw.rng.random() < BY_SCHEDULE:
        runs.append(ground.begin())
        wait_for(lambda: _is_over(ground, runs[1]), "the end of the next scheduled run")
        one.then = f"schedule: {ground.state_of(runs[1])}"
        is_done = ground.state_of(runs[1]) in ("Completed", "Skipped")
        # Where the schedule itself was faster, its build does the rest.
        wait_for(lambda: not ground.is_held("build"), "the end of the scheduled build")
    else:
        code = ground.build()
        one.then = f"build: exit {code}"
        is_done = code == 0
    if not is_done:
        one.broken.append("what was to do the rest failed")
    one.broken += broken_laws(ground, runs, may_end_runs=draw.accident.ends_runs)
