"""The studio's corpus in a state folder: what is missing is rendered, and nothing twice."""

import pyarrow.parquet as pq
import pytest

from tasks.sources import studio
from tasks.sources.scenes.corpus import CorpusConfig


def test_rendering_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(studio, "KEPT_EVERY", 2)
    config = CorpusConfig(num_scenes=5)
    with pytest.raises(KeyboardInterrupt):
        studio.render(tmp_path, config, killed_after_three)
    asked = []

    studio.render(tmp_path, config, lambda call, items: map(call, asked.extend(items) or items))

    assert len(asked) == 3, "two scenes were kept, with their truth"
    media = sorted(path.stem for path in (studio.folder_of(tmp_path) / "media").glob("*.mp4"))
    assert pq.read_table(studio.truth_of(tmp_path))["video_id"].to_pylist() == media
    assert len(media) == config.num_scenes


def test_a_whole_corpus_asks_for_nothing(tmp_path):
    config = CorpusConfig(num_scenes=2)
    studio.render(tmp_path, config, map)

    studio.render(tmp_path, config, lambda call, items: pytest.fail(f"{len(items)} rendered again"))


def test_media_that_is_gone_is_rendered_again_and_its_truth_stands_once(tmp_path):
    config = CorpusConfig(num_scenes=2)
    studio.render(tmp_path, config, map)
    lost = next((studio.folder_of(tmp_path) / "media").glob("*.mp4"))
    lost.unlink()

    studio.render(tmp_path, config, map)

    assert lost.is_file()
    assert pq.read_table(studio.truth_of(tmp_path)).num_rows == config.num_scenes


def killed_after_three(call, items):
    """Renders three and is then killed."""
    yield from map(call, items[:3])
    raise KeyboardInterrupt
