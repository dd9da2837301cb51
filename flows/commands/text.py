"""What the commands print: plans, funnels and status as text."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.manifest import part_numbers
from schemas.shard import latest_digest, read_version
from tasks.acquisition.availability import COLUMNS, availability
from tasks.columns import Once
from tasks.funnel import FATE, count_fates, main_loss
from tasks.standing import num_kept
from tasks.transport.failure_classes import hint
from tasks.transport.lanes import lane_report

if TYPE_CHECKING:
    # Each costs its own verb what the others don't pay for.
    from flows.builds.takedown import Forgotten
    from flows.compare_models import Compared
    from tasks.acquisition.doctor import Finding
    from tasks.parts import Plan
    from tasks.versions.prune import Pruned
    from tasks.versions.verify import Findings

MB = 1e6
MOST_DIFFERENCES = 50  # that are printed
LABELS_SHOWN = 10
REASONS = 3  # of a stage's parts that a plan shows


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


def status_of(root: Path, state: Path | None, now: datetime) -> dict[str, Any]:
    """Funnel, latest version, availability, pace, lanes and what is due; `reason`: why no sample is there.

    Raises ValueError for no root.
    """
    if not part_numbers(root / "segments"):
        build = shlex.join(["mcgurk", "build", "--root", str(root)])
        raise ValueError(
            f"{root} has no segments: build a dataset there first: {build} --segments LIST --source S"
        )
    wanted = {"segments": ("row", "labels", *FATE), "clips": tuple(dict.fromkeys((*FATE, *COLUMNS)))}
    with Once(wanted, state / "looked" if state else None) as read:
        told = {**count_fates(root, read), "dataset_version": latest_digest(root)}
        told["is_emptied"] = bool(told["dataset_version"]) and not read_version(root).shards
        told["kept"] = num_kept(root)
        told["reason"] = "" if told["in_shards"] else main_loss(root)
        return {**told, **availability(root, now, read), "lanes": lane_report(state)}


def status_text(status: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The funnel, then availability by class and label, lanes, pace, and what is due when."""
    lines = [funnel_text(status)]
    if status["kept"]:
        lines.append(
            f"{status['kept']:>9,} of those in shards are as earlier code or tools made them (build --refetch)"
        )
    lines += ["", "last answers of the source, by class"]
    for name, one in status["classes"].items():
        days = (
            f"{(one['first'] or '')[:10]} to {(one['last'] or '')[:10]}" if one["last"] else "not tried yet"
        )
        lines.append(f"{one['segments']:>9,} {name:<24}{days}")
    lines += ["", f"availability by label, the {LABELS_SHOWN} most frequent (--json has all)"]
    for label, one in list(status["labels"].items())[:LABELS_SHOWN]:
        share = f"{one['available'] / one['tried']:.1%}" if one["tried"] else "-"
        lines.append(f"{one['tried']:>9,} {names.get(label, label):<32}{share:>7}")
    for name, lane in status["lanes"].items():
        why = f"{lane['why']}{hint(lane['why'])}"
        closed = f"closed until {lane['closed_until']}: {why}" if lane["closed_until"] else "open"
        lines.append(
            f"lane {name}: {closed}; {lane['videos_today']:,} video(s) today, slowed by {lane['slowdown']:g}"
        )
    lines += ["", f"{status['backlog']:,} to try; {status['tried_per_hour']:,.0f} an hour in the last day"]
    if status["backlog_ends_at"]:
        lines.append(f"at that rate the backlog ends on {status['backlog_ends_at'][:10]}")
    lines.append("due: " + ", ".join(f"{n:,} {when}" for when, n in status["due"].items()))
    return "\n".join(lines)


def doctor_text(found: Sequence["Finding"]) -> str:
    """A line for each finding, and the remedy below it where there is one."""
    lines = []
    for one in found:
        lines.append(f"{'LACKS' if one.remedy else 'ok':<7}{one.what:<26}{one.found}")
        lines += [f"{'':<7}{'':<26}-> {one.remedy}"] if one.remedy else []
    lacking = sum(bool(one.remedy) for one in found)
    lines.append(f"{lacking} thing(s) to mend" if lacking else "all well")
    return "\n".join(lines)


def scores_text(results: Mapping[str, Any]) -> str:
    """The evaluation's main numbers with their 95 % intervals and chance levels."""
    asked = results["correspondence"]
    found = results["retrieval"]
    rows = [
        ("accuracy, against the sound of any other video", asked["random"], "accuracy"),
        ("AUC, the same pairs", asked["random"], "auc"),
        ("accuracy, against sounds of the same family", asked["same_group"], "accuracy"),
        ("accuracy, against the same clip at another time", asked.get("shifted", {}), "accuracy"),
        ("recall@1, picture -> sound", found["image_to_audio"], "recall_at_1"),
        ("recall@10, picture -> sound", found["image_to_audio"], "recall_at_10"),
        ("recall@10, sound -> picture", found["audio_to_image"], "recall_at_10"),
        ("balance of the pairs: picture alone", asked["probes"], "frame_only"),
        ("balance of the pairs: sound alone", asked["probes"], "audio_only"),
    ]
    late = results.get("synchrony", {})
    rows += [
        ("offset found within 120 ms", late, "within_120_ms"),
        ("offset found within one class of 21", late, "within_one_class"),
    ]
    return "\n".join(f"{name:<50}{_interval(table[key])}" for name, table, key in rows if key in table)


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


def verify_text(found: "Findings", plan: str) -> str:
    """What was proved, or what differs; then `plan` is the command that says more."""
    counts = found.checked
    kinds = ("versions", "shards", "samples", "members", "features", "parts", "clips", "rebuilt")
    proved = ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds if counts[kind])
    lines = [f"looked at {proved} ({counts['bytes'] / MB:,.1f} MB of shards)"]
    if not found.differences:
        again = "; every shard made again from its clips is the same" if counts["rebuilt"] else ""
        return "\n".join([*lines, f"every byte is what was recorded{again}"])
    lines += [f"  {one}" for one in found.differences[:MOST_DIFFERENCES]]
    if len(found.differences) > MOST_DIFFERENCES:
        lines.append(f"  and {len(found.differences) - MOST_DIFFERENCES:,} more: --json has them all")
    lines.append(f"{len(found.differences):,} difference(s); a plan names what a build mends\nnext: {plan}")
    return "\n".join(lines)


def pruned_text(pruned: "Pruned") -> str:
    """What was removed and what was kept, and why."""
    lines = [f"kept  {digest[:12]}  {why}" for digest, why in pruned.kept.items()]
    lines += [f"retired  {digest[:12]}" for digest in pruned.retired]
    lines += [f"removed  {name}  {size / MB:,.1f} MB" for name, size in pruned.removed.items()]
    size = sum(pruned.removed.values())
    lines.append(f"{len(pruned.removed):,} file(s) removed, {size / MB:,.1f} MB ({size:,} bytes)")
    return "\n".join(lines)


def forgotten_text(done: "Forgotten") -> str:
    """What a take-down removed, rewrote and tagged."""
    lines = [f"segment   {key}: forgotten" for key in done.keys]
    lines += [f"removed   {name}  ({size:,} bytes)" for name, size in done.removed.items()]
    lines += [f"shard     {old} -> {new or 'none: no sample is left'}" for old, new in done.shards.items()]
    lines += [f"version   {old[:12]} -> {new[:12]}" for old, new in done.versions.items()]
    lines += [f"page      {name}: cleaned" for name in done.pages]
    lines += [f"artefact  {name}: cleaned" for name in done.artifacts]
    lines += [f"model     {name}" for name in done.models]
    if not (done.removed or done.shards or done.versions or done.pages or done.artifacts):
        lines.append("nothing of them was left to remove")
    if not done.models:
        lines.append("no registered model was trained on a version that held them")
    return "\n".join(lines)
