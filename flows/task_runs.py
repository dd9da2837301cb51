"""The table of Prefect tasks: how each stage is retried, and how long it may take.

A task run is one stage over a group of parts. Prefect's results are not the memory (the parts are), so
nothing is cached or persisted: a retried flow asks the parts again and does what is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

GROUP = 16  # parts a task run: 8,192 segments of AudioSet's train set, about 250 task runs a stage


@dataclass(frozen=True)
class Policy:
    """When a stage is tried again by itself."""

    retries: int = 0
    delay_s: float = 0.0


# What fails for a bug, a gate or a full disk fails again at once; only the world of `download` mends itself.
POLICIES = {"download": Policy(retries=2, delay_s=30.0), "pack": Policy(retries=1)}


def stage_task(name: str, function: Callable) -> Task:
    """`function` as the Prefect task of stage `name`."""
    policy = POLICIES.get(name, Policy())
    return task(
        name=name,
        retries=policy.retries,
        retry_delay_seconds=policy.delay_s,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(function)
