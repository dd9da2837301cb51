"""What the commands print: plans, funnels and status as text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Each is slow to import, and only one verb needs it.
    from flows.compare_models import Compared
    from tasks.parts import Plan

MB = 1e6
MOST_DIFFERENCES = 50  # that are printed
LABELS_SHOWN = 10
REASONS = 3  # that a plan shows for the parts of a stage


def plan_text(plans: Mapping[str, "Plan"]) -> str:
    """A table of done, stale, failed and missing parts by stage, with the first reasons."""
    lines = [f"{'stage':<18}{'done':>7}{'stale':>7}{'failed':>7}{'missing':>8}  why"]
    for name, plan in plans.items():
        counts = plan.counts()
        reasons = list(dict.fromkeys(one.reason for one in plan.parts if one.reason))
        numbers = f"{counts['done']:>7}{counts['stale']:>7}{counts['failed']:>7}{counts['missing']:>8}"
        lines.append(f"{name:<18}{numbers}  {'; '.join(reasons[:REASONS])}".rstrip())
    lines += [plan.note for plan in plans.values() if plan.note]
    if not any(plan.due() for plan in plans.values()):
        lines.append("nothing to do")
    return "\n".join(lines)


def funnel_text(counts: Mapping[str, Any]) -> str:
    """The funnel, whose lines add up to the number of segments."""
    lines = [f"{counts['segments']:>9,} segments", f"{counts['in_shards']:>9,} in shards"]
    for fate in ("quarantined", "unavailable", "waiting"):
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts[fate].items())
        lines.append(f"{sum(counts[fate].values()):>9,} {fate}" + (f": {reasons}" if reasons else ""))
    lines.append(f"{counts['forgotten']:>9,} forgotten")
    return "\n".join(lines)


def scores_text(results: Mapping[str, Any]) -> str:
    """The headline of every evaluation: estimates with their 95 % intervals and chance levels."""
    return "\n".join(f"{label:<50}{_interval(estimate)}" for label, estimate in results["headline"])


def comparison_text(compared: Sequence["Compared"]) -> str:
    """A table of models: means and 95 % intervals over the seeds, and chance in the last row."""
    names = list(compared[0].numbers)
    head = f"{'variant':<26}" + "".join(f"{name:<30}" for name in names) + "training"
    lines = [f"{len(compared)} variants, {compared[0].steps} steps each, means over 3 seeds", "", head]
    for one in compared:
        cells = [
            f"{100 * mean:5.1f} %  ({100 * low:.1f} to {100 * high:.1f})"
            for mean, low, high, _ in one.numbers.values()
        ]
        lines.append(f"{one.name:<26}" + "".join(f"{cell:<30}" for cell in cells) + f"{one.train_s:.0f} s")
    chances = [f"{100 * chance:5.1f} %" for *_, chance in compared[0].numbers.values()]
    return "\n".join([*lines, f"{'chance':<26}" + "".join(f"{chance:<30}" for chance in chances).rstrip()])


def _interval(estimate: Mapping[str, float]) -> str:
    value, low, high, chance = (100 * estimate[name] for name in ("value", "low", "high", "chance"))
    return f"{value:5.1f} %  ({low:.1f} to {high:.1f}; chance {chance:.1f})"
