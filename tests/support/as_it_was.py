"""What a process has that we could change, before and after what we start in it; run as processes of their own."""

import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

LOGGERS = ("", "distributed", "dask", "flows", "tasks", "training", "asyncio")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)


def seen() -> dict[str, Any]:
    """Environment, signal handlers, logging, and torch's threads as they are now."""
    import torch  # where it was not loaded yet, it reads the environment now

    loggers = [logging.getLogger(name) for name in LOGGERS]
    return {
        "environment": dict(os.environ),
        "signals": [repr(signal.getsignal(one)) for one in SIGNALS],
        "levels": [one.level for one in loggers],
        "handlers": [sorted(map(repr, one.handlers)) for one in loggers],
        "threads": torch.get_num_threads(),
    }


def tell(before: dict[str, Any]) -> None:
    """Prints what differs, and torch's threads."""
    after = seen()
    differing = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
    print(json.dumps({"differing": differing, "threads": after["threads"]}))


def nothing(_: str) -> None:
    """Starts nothing."""
    tell(seen())


def cluster(_: str) -> None:
    """A build's cluster, before torch is loaded."""
    from flows.compute import open_compute

    environment = dict(os.environ)
    with open_compute("local") as map_items:
        assert sorted(map_items(abs, [-1, 2])) == [1, 2]
    tell({**seen(), "environment": environment})


def cluster_again(_: str) -> None:
    """A build's cluster, after torch was loaded."""
    from flows.compute import open_compute  # when it is imported, Dask sets its logging up

    before = seen()
    with open_compute("local") as map_items:
        list(map_items(abs, [-1, 2]))
    tell(before)


def servers(folder: str) -> None:
    """A Prefect server of our own."""
    from flows.services.servers import prefect_api

    before = seen()
    with prefect_api(Path(folder)):
        pass
    tell(before)


def training(folder: str) -> None:
    """A training with threads of its own, as one MLflow run."""
    import avc_fixtures as shards

    from training.loop import train
    from training.tracking import runs

    root = Path(folder)
    before = seen()
    dataset = shards.written(root, shards.corresponding({"train": 4, "val": 2, "eval": 2}))
    spec = runs.RunSpec("run", {}, runs.VersionSource("d", ""), {})
    config = replace(shards.SHORT_RUN, num_threads=1, is_deterministic=True)
    with runs.experiment_run(runs.Store(root), spec) as run, runs.system_metrics(run):
        for metrics in train(dataset, "contrastive", shards.TINY, config, root / "run"):
            run.log_step(metrics)
    tell(before)
