"""What a user asks of a build."""

from dataclasses import dataclass

from tasks.lists.selection import Choice
from tasks.parts import Only

NO_LABELS = ("none",)  # names no label, not even those of folders


@dataclass(frozen=True)
class BuildOptions:
    """What a user asks of a build; `parts` as `3,7-9`."""

    root: str
    preset: str | None = None  # None: what the root was last built with, as for all of these, else standard
    segments: tuple[str, ...] = ()
    source: str | None = None
    # Seconds: the videos of a folder, or the files that a list names without times, are cut in such.
    window: float | None = None
    val_share: float | None = None  # of the videos, where no list says which are for validation
    eval_share: float | None = None  # likewise, for evaluation
    labels: tuple[
        str, ...
    ] = ()  # names or machine ids, each with what stands below it; `none`: not of folders
    per_class: int | None = None  # segments of each label
    sample: int | None = None  # segments, of each label as many as of any other
    from_stage: str | None = None
    only: Only = "all"
    parts: str | None = None
    compute: str = "local"
    state: str | None = None
    refetch: bool = (
        False  # media that were let go, where other code or tools would make something else of them
    )
    strict: bool = False
    growth: float | None = None  # of the samples, by which a version is due for a training
    with_media: bool = False  # into the data card; the studio's always

    @property
    def choice(self) -> Choice:
        """Which segments of the lists are taken."""
        labels = () if self.labels == NO_LABELS else tuple(self.labels)
        return Choice(labels, self.per_class, self.sample)
