"""The journal of rounds: a line each, and the table of how many were survived."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Round:
    """What was done to whom, and what came of it."""

    number: int
    where: str
    victim: str
    how: str
    stage: str = ""  # that was hit; empty where the build was over before
    state: str = ""  # of the run that was hit
    then: str = ""  # what did the rest: the schedule, or a plain build
    again: int = 0  # parts of that stage that were not there when it was hit, and had to be done
    twice: int = 0  # parts of any stage that were there, and were written once more
    seconds: float = 0.0
    state_mb: float = 0.0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        end = "; ".join(self.broken) or "survived"
        hit = (
            f"in {self.stage}, {self.again} part(s) done again, {self.twice} twice"
            if self.stage
            else "missed"
        )
        return (
            f"round {self.number}, {self.where}: {self.victim}, {self.how}: {hit}; run {self.state}, then {self.then}; "
            f"{end}; {self.seconds:.0f} s"
        )


class Journal:
    """All rounds that were played in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rounds = [Round(**json.loads(line)) for line in lines]

    def write(self, one: Round) -> None:
        """Adds a round."""
        self.rounds.append(one)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(one)) + "\n")

    @property
    def count(self) -> int:
        """How many rounds were played, those included that hit nothing."""
        return len(self.rounds)

    @property
    def num_broken(self) -> int:
        """Rounds after which a law did not hold."""
        return sum(bool(one.broken) for one in self.rounds)

    def table(self) -> str:
        """Rounds survived of those that hit a running stage, by victim, as Markdown."""
        by_victim = defaultdict(list)
        for one in self.rounds:
            if one.stage:
                by_victim[one.where, one.victim, one.how].append(one)
        lines = [
            "| where | victim | what | rounds | survived | parts done again |",
            "|---|---|---|---:|---:|---:|",
        ]
        for (where, victim, how), some in sorted(by_victim.items()):
            survived = sum(not one.broken for one in some)
            again = sum(one.again for one in some)
            lines.append(f"| {where} | {victim} | {how} | {len(some)} | {survived} | {again} |")
        hit = [one for one in self.rounds if one.stage]
        survived = sum(not one.broken for one in hit)
        lines.append(f"| all | | | {len(hit)} | {survived} | {sum(one.again for one in hit)} |")
        return "\n".join(lines)
