"""What can be said of a build before anything starts: so a mistake is one sentence, and nothing was changed."""

import socket
from urllib.parse import urlsplit

from flows.builds.pipeline import Pipeline, parts_asked, plan_one, stages_asked
from flows.credentials import secrets_of
from tasks.acquisition import retention
from tasks.sources import open_source
from tasks.transport.policy import Access

BLOCK = "{block:"  # in a source
COMPUTES = ("threads", "local")
SCHEMES = ("tcp", "tls")  # whose addresses can be called up; others are left to Dask
ANSWER_S = 10.0


def check(pipeline: Pipeline) -> None:
    """Raises ValueError for a build that can't be, RuntimeError where its scheduler does not answer."""
    parts_asked(pipeline.options)
    check_compute(pipeline.options.compute)
    check_source(pipeline)
    check_media(pipeline)


def check_compute(spec: str) -> None:
    """Raises ValueError for a `--compute` that is none, RuntimeError for a scheduler that does not answer."""
    if spec in COMPUTES:
        return
    try:
        address = urlsplit(spec)
        host = address.hostname
        port = address.port
    except ValueError:
        host = port = None
    if not host or not port or "://" not in spec:
        raise ValueError(
            f"--compute {spec}: use {', '.join(COMPUTES)} or the address of a scheduler (tcp://host:8786)"
        )
    if address.scheme in SCHEMES:
        try:
            socket.create_connection((host, port), ANSWER_S).close()
        except OSError as error:
            raise RuntimeError(
                f"--compute {spec}: no scheduler answers there ({error}); with one, the same command goes on"
            ) from error


def check_source(pipeline: Pipeline) -> None:
    """Raises ValueError for a source that cannot be opened; a Secret block is looked up when its server is there."""
    source = pipeline.config.download.source
    if not pipeline.is_studio and BLOCK not in source:
        access = Access(secret=secrets_of(pipeline.state, pipeline.secrets))
        with open_source(source, pipeline.state, access):
            pass


def check_media(pipeline: Pipeline) -> None:
    """Raises ValueError where extraction is asked for what it can't make of samples whose media were not kept.

    What stands stays until its successor is there.
    """
    options = pipeline.options
    asked = stages_asked(options)
    if options.refetch and "download" not in asked:
        raise ValueError(
            f"--refetch: --from {options.from_stage} begins after the download, which would fetch them"
        )
    if options.refetch or "extract" not in asked:
        return
    due = plan_one(pipeline, "extract").due(options.only, parts_asked(options))
    lost = (
        retention.missing_media(pipeline.stage("download"), pipeline.stage("extract"), only=due)
        if due
        else {}
    )
    if count := retention.num_clips(lost):
        raise ValueError(
            f"preset {options.preset} needs the media of {count:,} clip(s) again, which were not kept; nothing was "
            "changed. With --refetch they are fetched again; the samples of those that the source has lost since "
            "would not be in the new version"
        )
