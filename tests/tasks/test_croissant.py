"""The cards for the ecosystem: what catalogues, hubs and loaders are told of a version, read by their own readers."""

import json
import logging
import shutil
from dataclasses import asdict, replace
from hashlib import sha256

import pytest
from roots import PROFILE, Root, write_clips

from schemas.feature import PROFILES
from schemas.files import DIGEST, write_json
from schemas.segment import segment_key
from schemas.shard import (
    Shard,
    croissant_path,
    make_version,
    published,
    read_facts,
    read_history,
    read_version,
    retire,
    tar_path,
)
from tasks.features import member_suffixes
from tasks.versions.card import write_card
from tasks.versions.croissant import (
    described_version,
    lacks_croissant,
    problems_of_croissant,
    write_croissant,
)
from tasks.versions.hub import head, size_category
from tasks.versions.origin import FACT, Origin, find_origin, origin_of
from tasks.versions.verify import read_samples, verify

# mlcroissant 1.1.1 reads JSON-LD by what rdflib 7.6 calls deprecated, and leaves the files that it reads open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]

IDS = ["-dash", "_under", "plain", "zeta"]
KEYS = {segment_key(video_id, 0, 2000) for video_id in IDS}
# Of `docs/croissant_rai.ttl`; others would be accepted in silence.
RAI = {
    "dataCollection", "dataCollectionType", "dataCollectionMissingData", "dataCollectionRawData",
    "dataCollectionTimeframe", "dataPreprocessingProtocol", "dataImputationProtocol", "dataManipulationProtocol",
    "dataReleaseMaintenancePlan", "personalSensitiveInformation", "dataAnnotationProtocol", "dataAnnotationPlatform",
    "dataAnnotationAnalysis", "annotationsPerItem", "annotatorDemographics", "machineAnnotationTools",
    "dataSocialImpact", "dataBiases", "dataLimitations", "dataUseCases",
}  # fmt: skip
# What the specification requires. mlcroissant warns of some, and says nothing of name, description, url and creator.
REQUIRED = {
    "@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished",
}  # fmt: skip
STUDIO = Origin(("studio",), ("audioset",))
YOUTUBE = Origin(("youtube",), ("audioset",))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A version of two splits."""
    folder = tmp_path_factory.mktemp("media")
    lists = write_clips(folder, IDS)
    root = Root(tmp_path_factory.mktemp("root"), f"folder:{folder}", lists)
    root.config = replace(root.config, val_share=0.5)
    root.build()
    assert {shard.split for shard in read_version(root.path).shards} == {"train", "val"}
    return root.path


@pytest.fixture
def root(built, tmp_path):
    return shutil.copytree(built, tmp_path / "root")


@pytest.fixture
def mlc(tmp_path_factory, monkeypatch):
    """The validator and loader of Croissant, with a cache of its own."""
    import mlcroissant
    from mlcroissant._src.operation_graph.operations import extract

    monkeypatch.setattr(extract, "EXTRACT_PATH", type(extract.EXTRACT_PATH)(tmp_path_factory.mktemp("cache")))
    return mlcroissant


def described(root) -> dict:
    return json.loads(croissant_path(root, read_version(root).digest).read_text())


def test_croissant_accepts_the_file_without_a_warning(root, mlc):
    dataset = mlc.Dataset(jsonld=str(croissant_path(root, read_version(root).digest)))

    issues = dataset.metadata.ctx.issues
    assert (set(issues.errors), set(issues.warnings)) == (set(), set())
    assert dataset.metadata.data_use_cases and dataset.metadata.personal_sensitive_information


def test_croissant_reads_every_member_as_the_tars_hold_it(root, mlc):
    version = read_version(root)
    dataset = mlc.Dataset(jsonld=str(croissant_path(root, version.digest)))
    samples = {
        key: one for shard in version.shards for key, one in read_samples(tar_path(root, shard)).items()
    }

    read = {
        name: {
            row[f"{name}/key"].decode(): row[f"{name}/content"] for row in dataset.records(record_set=name)
        }
        for name in ("sounds", "samples", "log_mel_npy")
    }
    frames = {
        (row["frames/key"].decode(), row["frames/frame"]): row["frames/content"].size
        for row in dataset.records(record_set="frames")
    }

    assert read["sounds"] == {key: one["wav"][1] for key, one in samples.items()}
    assert read["samples"] == {key: one["json"][1] for key, one in samples.items()}
    assert read["log_mel_npy"] == {key: one["log_mel.npy"][1] for key, one in samples.items()}
    assert frames.keys() == {(key, n) for key in KEYS for n in range(PROFILE.num_frames)}
    assert set(frames.values()) == {(192, 128)}


def test_croissant_refuses_a_tar_that_is_not_the_one_described(root, mlc):
    version = read_version(root)
    path = croissant_path(root, version.digest)
    with tar_path(root, version.shards[0]).open("ab") as tar:
        tar.write(b"\0")

    dataset = mlc.Dataset(jsonld=str(path))

    with pytest.raises(mlc.GenerationError, match=rf"Download\({version.shards[0].name}\)"):
        list(dataset.records(record_set="sounds"))


def test_the_file_says_what_the_specification_requires(root):
    found = described(root)

    assert found.keys() >= REQUIRED and all(found[name] for name in REQUIRED)
    assert {name.removeprefix("rai:") for name in found if name.startswith("rai:")} <= RAI
    assert found["conformsTo"] == [
        "http://mlcommons.org/croissant/1.0",
        "http://mlcommons.org/croissant/RAI/1.0",
    ]


def test_the_files_are_the_shards_with_their_digests_and_sizes(root):
    version = read_version(root)
    files = {one["name"]: one for one in described(root)["distribution"] if one["@type"] == "cr:FileObject"}

    for shard in version.shards:
        path = tar_path(root, shard)
        one = files.pop(f"{shard.name}.tar")
        assert (root / "versions" / one["contentUrl"]).resolve() == path.resolve()
        assert one["sha256"] == sha256(path.read_bytes()).hexdigest()
        assert one["contentSize"] == f"{path.stat().st_size} B"
    assert files == {}


def test_the_date_is_that_of_the_first_publication_and_all_else_the_record_s(root):
    version = read_version(root)
    before = croissant_path(root, version.digest).read_bytes()

    (line,) = read_history(root)
    write_croissant(root, version)

    assert described(root)["datePublished"] == line["published_at"]
    assert croissant_path(root, version.digest).read_bytes() == before


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_croissant_accepts_each_profile(profile, mlc, tmp_path):
    version = make_version(profile, member_suffixes(profile), [shard(0), shard(1, "eval")])
    facts = {"origin": {"media": ["youtube"], "labels": ["audioset"]}}
    path = tmp_path / "croissant.json"
    write_json(path, {**described_version(version, facts, "."), "datePublished": "2026-11-30"})

    issues = mlc.Dataset(jsonld=str(path)).metadata.ctx.issues

    assert (set(issues.errors), set(issues.warnings)) == (set(), set())


def test_a_version_of_all_of_audioset_is_described_in_moments(tmp_path):
    profile = PROFILES["standard"]
    version = make_version(profile, member_suffixes(profile), [shard(n) for n in range(4322)])

    write_json(tmp_path / "croissant.json", described_version(version, {}, "../shards"))

    text = (tmp_path / "croissant.json").read_text()

    assert len(text) < 3_000_000
    assert len([one for one in json.loads(text)["distribution"] if one["@type"] == "cr:FileObject"]) == 4322


def shard(part: int, split: str = "train") -> Shard:
    return Shard(f"{split}-{part:06d}-{part:08x}", split, part, f"{part:064x}", 1_000_000, 512)


def test_publishing_does_not_import_the_validator():
    import subprocess
    import sys

    code = "import sys, tasks.publish; print([n for n in ('mlcroissant', 'rdflib', 'datasets') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.strip() == "[]", done.stderr


def test_the_origin_is_what_stands_under_the_root(root):
    assert find_origin(root) == {"media": ("folder",), "labels": ("audioset",)}
    assert origin_of(read_facts(root, read_version(root).digest)) == Origin(("folder",), ("audioset",))


@pytest.mark.parametrize(
    ("origin", "licence", "told"),
    [
        (
            STUDIO,
            "license: apache-2.0",
            "The labels are AudioSet's, CC BY 4.0. The scenes were generated by mcgurk",
        ),
        (
            YOUTUBE,
            "license: other",
            "The labels are AudioSet's, CC BY 4.0. The media belong to their uploaders",
        ),
        (Origin(("folder",), ("lists",)), "license: other", "The media belong to those who made them"),
        (Origin(), "license: other", "AudioSet's lists are CC BY 4.0. The media belong to their uploaders"),
    ],
)
def test_a_licence_is_claimed_only_for_what_is_ours(origin, licence, told):
    version = make_version(PROFILE, member_suffixes(PROFILE), [shard(0)])
    facts = {"origin": {"media": origin.media, "labels": origin.labels}}

    licences = described_version(version, facts, "")["license"]

    assert licence in head(version, origin, {"train": ["a.tar"]}).splitlines()
    assert licences[-1].startswith(told)
    assert ("https://www.apache.org/licenses/LICENSE-2.0" in licences) == (origin == STUDIO)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ((), "There are no labels."),
        (("lists",), "Labels are those of the lists that were read, as they were found"),
    ],
)
def test_labels_are_claimed_only_where_there_are_some(root, labels, told):
    facts = {**read_facts(root, read_version(root).digest), FACT: asdict(Origin(("folder",), labels))}

    assert told in described_version(read_version(root), facts, "../shards")["rai:dataAnnotationProtocol"]


def test_what_is_gone_at_its_source_is_counted():
    version = make_version(PROFILE, member_suffixes(PROFILE), [shard(0)])
    funnel = {
        "segments": 9, "in_shards": 4, "quarantined": {"has_audio": 1}, "unavailable": {"removed": 2}, "waiting": {},
        "forgotten": 2,
    }  # fmt: skip

    found = described_version(version, {"funnel": funnel}, "")

    assert found["rai:dataCollectionMissingData"] == (
        "Of 9 segments 4 are here; 1 quarantined (has_audio 1); 2 unavailable (removed 2); 0 waiting; 2 taken down."
    )


def test_the_head_is_read_by_the_hub_s_own_reader(root):
    from huggingface_hub import DatasetCard

    version = read_version(root)
    card = DatasetCard.load(str(root / "README.md"), ignore_metadata_errors=False)

    told = card.data.to_dict()
    assert told["license"] == "other" and told["task_categories"] == ["audio-classification", "other"]
    assert told["size_categories"] == ["n<1K"]
    (config,) = told["configs"]
    assert {one["split"]: one["path"] for one in config["data_files"]} == {
        split: [f"shards/{one.name}.tar" for one in version.of_split(split)] for split in ("train", "val")
    }
    assert (root / "README.md").read_text() == (root / "versions" / f"{version.digest}.md").read_text()


@pytest.mark.parametrize(
    ("samples", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (2_000_000, "1M<n<10M"), (20_000_000, "10M<n<100M")],
)
def test_sizes_have_the_hub_s_names(samples, name):
    assert size_category(samples) == name


def test_datasets_finds_each_split_with_as_many_rows_as_the_head_says(root, tmp_path, monkeypatch, caplog):
    datasets = loaded_datasets(monkeypatch)
    monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)
    version = read_version(root)

    found = datasets.load_dataset(str(root), cache_dir=str(tmp_path / "cache"))

    wanted = {split: sum(one.num_samples for one in version.of_split(split)) for split in ("train", "val")}
    assert {split: len(rows) for split, rows in found.items()} == wanted
    rows = [row for split in found.values() for row in split.cast_column("wav", datasets.Audio(decode=False))]
    assert {row["__key__"] for row in rows} == KEYS
    assert caplog.messages == [], "no part of the head is ignored"


def test_datasets_tells_when_rows_are_missing(root, tmp_path, monkeypatch):
    datasets = loaded_datasets(monkeypatch)
    readme = root / "README.md"
    count = read_version(root).of_split("train")[0].num_samples
    readme.write_text(readme.read_text().replace(f"num_examples: {count}", f"num_examples: {count + 1}", 1))

    with pytest.raises(Exception, match="num_examples"):
        datasets.load_dataset(str(root), cache_dir=str(tmp_path / "cache"))


def loaded_datasets(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    return datasets


def test_an_empty_version_has_cards_too(tmp_path):
    version = make_version(PROFILE, member_suffixes(PROFILE), [])

    assert "configs:" not in head(version, STUDIO, {})
    assert described_version(version, {"is_emptied": True}, "")["distribution"] == []


@pytest.mark.parametrize("content", ["", "[]", "{}", "no JSON"])
def test_a_damaged_file_is_named_and_written_again(root, content):
    version = read_version(root)
    path = croissant_path(root, version.digest)
    before = path.read_bytes()
    path.write_text(content)

    (one,) = verify(root, map).differences
    write_card(root, version, {})

    assert one.problem == f"its Croissant file {path.name} is damaged"
    assert path.read_bytes() == before


def test_a_file_of_other_tars_is_named(root):
    version = read_version(root)
    path = croissant_path(root, version.digest)
    stored = {name: value for name, value in described(root).items() if name != DIGEST}
    stored["distribution"][0]["sha256"] = "0" * 64
    write_json(path, stored)

    assert problems_of_croissant(root, version) == [f"its Croissant file {path.name} lists other tars"]


def test_other_words_of_another_version_of_mcgurk_are_no_damage(root):
    version = read_version(root)
    path = croissant_path(root, version.digest)
    stored = {name: value for name, value in described(root).items() if name != DIGEST}
    write_json(path, {**stored, "description": "In other words."})

    assert problems_of_croissant(root, version) == []


def test_a_lost_file_is_named_but_not_of_a_version_from_before_there_were_such_files(root):
    version = read_version(root)
    record = root / "versions" / f"{version.digest}.json"
    croissant_path(root, version.digest).unlink()

    lost = problems_of_croissant(root, version)
    is_lacking = lacks_croissant(root, version.digest)
    stored = json.loads(record.read_text())
    write_json(record, {name: stored[name] for name in stored if name != DIGEST} | {"facts": {}})

    assert lost == [f"its Croissant file {version.digest}.croissant.json is gone"] and is_lacking
    assert problems_of_croissant(root, version) == [] and not lacks_croissant(root, version.digest)


def test_the_file_counts_as_no_version(root):
    assert published(root) == [read_version(root).digest]
    assert verify(root, map).checked["versions"] == 1


def test_a_retired_version_keeps_no_card(root):
    digest = read_version(root).digest

    retire(root, digest)

    assert [path.name for path in (root / "versions").iterdir() if digest in path.name] == []
    assert not croissant_path(root, digest).exists()
