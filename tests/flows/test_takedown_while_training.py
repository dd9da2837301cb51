"""A training whose version is taken down leaves no page and no model."""

import pytest
from roots import Root, write_clips

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.experiments.experiment import Experiment
from flows.run_experiment import _require_version
from schemas.files import write_text
from schemas.shard import read_version
from training.tracking.runs import RunSpec, Store, VersionSource, experiment_run


def test_a_run_on_a_version_that_was_taken_down_stops_and_leaves_no_page(tmp_path):
    from flows.builds.takedown import forget

    folder = tmp_path / "media"
    root = Root(tmp_path / "root", f"folder:{folder}", write_clips(folder, ["plain", "other"]))
    root.build()
    pipeline = resolve(BuildOptions(str(root.path)))
    version = read_version(root.path)
    experiment = Experiment(pipeline, version, Store(root.path), with_media=True)
    source = VersionSource(version.digest, str(root.path))

    with experiment_run(experiment.store, RunSpec("run", {}, source, {})) as run:
        page = experiment.folder(run.run_id) / "report.html"
        write_text(page, "<h1>t</h1>")
        _require_version(experiment, run)
        stood = page.is_file()
        forget(pipeline, ["plain"])
        with pytest.raises(RuntimeError, match="was taken down while it was trained on"):
            _require_version(experiment, run)

    assert stood and not page.parent.exists()
