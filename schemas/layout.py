"""Where everything is under a root and under a state folder, and the facts of the eight stages.

ROOT    segments/ clips/ clips/media/ features/ shards/ versions/ reports/ mlruns/
STATE   attempts/ canary/ lanes/ leases/ logs/ prefect/ rebuild-*/ runs/ scratch/ serve/ studio/ tars/ trainings/
        windows/
"""

from dataclasses import dataclass

# Under a root.
SEGMENTS = "segments"
CLIPS = "clips"
MEDIA = "clips/media"
FEATURES = "features"
SHARDS = "shards"
VERSIONS = "versions"
REPORTS = "reports"
OVERVIEW = "index.html"  # the state of the root, for people
VALIDATION = "reports/validation"
MLRUNS = "mlruns"
RUN_REPORT = "report.html"  # in the folder of a run
CHECKED = "checked"  # beside the parts of a manifest: the validated ones

# Under a state folder.
ATTEMPTS = "attempts"
CANARY = "canary"  # a separate root, with four scenes
LANES = "lanes"
LEASES = "leases"
LOGS = "logs"
PREFECT = "prefect"
RECHECKS = "rechecks.jsonl"  # what the sources last answered about the videos that we hold
REBUILD = "rebuild-"  # prefix of a folder's name, one for each `verify --rebuild`
RUNS = "runs"  # a note for each active run
SCRATCH = "scratch"  # media between download and cutting
SERVE = "serve"
SIGNS = "signs.json"  # which signs of failure have been reported
STUDIO = "studio"
TARS = "tars"  # the index of each file of a source of archives
TRAININGS = "trainings"
WINDOWS = "windows"  # which id stands for which of a person's own files, and the windows of each

RUN_NAME = 12  # characters of a run's id


def run_folder(run_id: str) -> str:
    """The folder of checkpoint, results and report of one training, under the root."""
    return f"{REPORTS}/{run_id[:RUN_NAME]}"


def checked(manifest: str) -> str:
    """The folder of the validated parts of `manifest`, under the root."""
    return f"{manifest}/{CHECKED}"


@dataclass(frozen=True)
class StageFacts:
    """A stage as data: which manifest it reads, which it writes, and under which lease.

    Attributes:
        name: the name of the stage.
        reads: the manifest whose parts it reads, a folder under the root; empty for the lists.
        writes: the manifest whose parts it writes.
        lease: what a build holds while the stage runs; its holder is the only writer of `folders`.
        folders: where a killed writer of the stage leaves temporary files; patterns under the root.
    """

    name: str
    reads: str
    writes: str
    lease: str
    folders: tuple[str, ...]


STAGES = (
    StageFacts("index", "", SEGMENTS, "segments", (SEGMENTS,)),
    StageFacts("validate-segments", SEGMENTS, checked(SEGMENTS), "segments", (checked(SEGMENTS),)),
    StageFacts("download", checked(SEGMENTS), CLIPS, "clips", (CLIPS, f"{MEDIA}/*")),
    StageFacts("validate-clips", CLIPS, checked(CLIPS), "clips", (checked(CLIPS),)),
    StageFacts("extract", checked(CLIPS), FEATURES, "features", (FEATURES, f"{FEATURES}/*")),
    StageFacts("validate-features", FEATURES, checked(FEATURES), "features", (checked(FEATURES),)),
    StageFacts("pack", checked(FEATURES), SHARDS, "features", (SHARDS,)),
    StageFacts("publish", SHARDS, VERSIONS, "features", ("", VERSIONS)),
)
STAGE_NAMES = tuple(one.name for one in STAGES)
# From the last manifest to the first: the furthest one that has a part decides the fate of its rows.
MANIFESTS = tuple(one.writes for one in reversed(STAGES) if one.writes != VERSIONS)
# Those with a suite of expectations; `publish` runs the one for `shards`.
JUDGED = (SEGMENTS, CLIPS, FEATURES, SHARDS)


def stage_facts(name: str) -> StageFacts:
    """The row of the stage `name`. Raises KeyError if there is none."""
    return {one.name: one for one in STAGES}[name]
