"""How a function becomes a Prefect task.

A task run is one stage over a group of parts. Prefect's results are not the memory (the parts are), so
nothing is cached or persisted: a retried flow looks at the parts again and does what is missing.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

MOST_SPANS = 4  # in the name of a task run


def task_of(name: str, function: Callable, *, retries: int = 0, retry_delay_s: float = 0.0) -> Task:
    """`function` as the Prefect task `name`, whose runs have the same name."""
    return task(
        name=name,
        task_run_name=name,
        retries=retries,
        retry_delay_seconds=retry_delay_s,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(function)


def parts_text(parts: Sequence[int]) -> str:
    """The numbers of some parts, in ascending order: `part 7`, `parts 0-31`, `parts 3, 7-9`."""
    breaks = [n for n, (one, other) in enumerate(pairwise(parts), 1) if other != one + 1]
    spans = [parts[begin:end] for begin, end in pairwise([0, *breaks, len(parts)])]
    if len(spans) > MOST_SPANS:
        return f"{len(parts)} parts from {parts[0]} to {parts[-1]}"
    texts = [f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans]
    return f"{'parts' if len(parts) > 1 else 'part'} {', '.join(texts)}"
