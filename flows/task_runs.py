"""How a function becomes a Prefect task.

A task run is one stage over a group of parts. Prefect's results are not the memory (the parts are), so
nothing is cached or persisted: a retried flow asks the parts again and does what is missing.
"""

from collections.abc import Callable

from prefect import Task, task
from prefect.cache_policies import NO_CACHE


def task_of(name: str, function: Callable, *, retries: int = 0, retry_delay_s: float = 0.0) -> Task:
    """`function` as the Prefect task `name`."""
    return task(
        name=name,
        retries=retries,
        retry_delay_seconds=retry_delay_s,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(function)
