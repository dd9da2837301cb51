"""Checks of a build before anything starts, so that a mistake costs one sentence and changes nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urlsplit

from flows.builds.options import BuildOptions
from flows.builds.pipeline import Pipeline, resolve
from flows.builds.plan import plan_all, plan_one, require_parts
from flows.credentials import secrets_of
from schemas.errors import OperationalError, RequestError
from schemas.mounts import require_local
from tasks.acquisition import retention
from tasks.sources import open_source
from tasks.transport.policy import Access

BLOCK = "{block:"  # in a source
COMPUTES = ("threads", "local")
SCHEMES = ("tcp", "tls")  # addresses that a socket can try; others are left to Dask
ANSWER_S = 10.0


_HANDED_ON: ContextVar[Pipeline | None] = ContextVar("handed_on", default=None)


def checked(options: BuildOptions) -> Pipeline:
    """The checked pipeline of a build. Raises RequestError, or OperationalError, as `check` does."""
    pipeline = resolve(options)
    if options.parts:
        require_parts(pipeline, plan_all(pipeline))
    check(pipeline)
    return pipeline


@contextmanager
def handing_on(pipeline: Pipeline) -> Iterator[None]:
    """Inside the block a flow takes this pipeline, which is checked, instead of options.

    The parameters of a flow are text, and a pipeline is not: without this a command would resolve and check it twice.
    """
    token = _HANDED_ON.set(pipeline)
    try:
        yield
    finally:
        _HANDED_ON.reset(token)


def handed_on() -> Pipeline | None:
    """The pipeline that the command which started this flow has resolved and checked; None in a deployed run."""
    return _HANDED_ON.get()


def check(pipeline: Pipeline) -> None:
    """Raises RequestError for an impossible build, OperationalError if its scheduler does not answer."""
    require_local(pipeline.state)
    check_compute(pipeline.options.compute)
    check_source(pipeline)
    check_media(pipeline)


def check_compute(spec: str) -> None:
    """Raises RequestError for an invalid `--compute`, OperationalError for a scheduler that does not answer."""
    if spec in COMPUTES:
        return
    try:
        address = urlsplit(spec)
        host = address.hostname
        port = address.port
    except ValueError:
        host = port = None
    if not host or not port or "://" not in spec:
        raise RequestError(
            f"--compute {spec}: use {', '.join(COMPUTES)} or the address of a scheduler (tcp://host:8786)"
        )
    if address.scheme in SCHEMES:
        try:
            socket.create_connection((host, port), ANSWER_S).close()
        except OSError as error:
            raise OperationalError(
                f"--compute {spec}: no scheduler answers there ({error}); once one does, the same command continues"
            ) from error


def check_source(pipeline: Pipeline) -> None:
    """Raises RequestError for a source that cannot be opened; Secret blocks are looked up later, on their server."""
    source = pipeline.config.download.source
    if not pipeline.is_studio and BLOCK not in source:
        access = Access(secret=secrets_of(pipeline.state, pipeline.secrets))
        with open_source(source, pipeline.state, access):
            pass


def check_media(pipeline: Pipeline) -> None:
    """Raises RequestError if extraction would need the media of samples whose media were not kept.

    What exists stays until its successor exists.
    """
    options = pipeline.options
    if options.refetch and "download" not in options.stage_names:
        raise RequestError(
            f"--refetch: --from {options.from_stage} begins after the download, which would fetch them"
        )
    if options.refetch or "extract" not in options.stage_names:
        return
    due = plan_one(pipeline, "extract").due(options.only, options.part_numbers)
    lost = (
        retention.missing_media(pipeline.stage("download"), pipeline.stage("extract"), only=due)
        if due
        else {}
    )
    if count := retention.num_clips(lost):
        raise RequestError(
            f"preset {options.preset} needs the media of {count:,} clip(s) again, which were not kept; nothing was "
            "changed. With --refetch they are fetched again; the new version would lack the samples of clips that "
            "the source no longer has"
        )
