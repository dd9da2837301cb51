"""A peer's side of `benchmarks/extract.py`: video2dataset over a list of clips, run by the peer's interpreter.

video2dataset 1.3.0 does this job only with three repairs: two of its subsamplers lack the attribute that names
their output, and subsamplers change the mapping that the worker walks through, which loses every sample.
"""

import sys
from pathlib import Path

import pandas as pd  # pyright: ignore[reportMissingImports]
from video2dataset import video2dataset  # pyright: ignore[reportMissingImports]
from video2dataset.subsamplers import (  # pyright: ignore[reportMissingImports]
    AudioRateSubsampler,
    FrameSubsampler,
    ResolutionSubsampler,
)


def repaired(kind) -> None:
    """Makes `kind` return a new mapping instead of changing the one it was given."""
    call = kind.__call__
    kind.__call__ = lambda self, streams, metadata=None: call(self, dict(streams), metadata)


# Here, because its worker processes import this module again.
ResolutionSubsampler.encode_formats = {"video": "mp4"}
AudioRateSubsampler.encode_formats = {"audio": "flac"}
for subsampler in (ResolutionSubsampler, FrameSubsampler, AudioRateSubsampler):
    repaired(subsampler)


def main() -> None:
    """Arguments: folder for the output, frames a second, clips."""
    folder = Path(sys.argv[1])
    rate = int(sys.argv[2])
    clips = sys.argv[3:]
    listing = folder / "clips.parquet"
    pd.DataFrame({"contentUrl": clips}).to_parquet(listing)
    subsampling = {
        "ResolutionSubsampler": {"args": {"height": 256, "resize_mode": ["scale"]}},
        "FrameSubsampler": {"args": {"frame_rate": rate}},
        "AudioRateSubsampler": {
            "args": {"sample_rate": 16_000, "encode_format": "flac", "n_audio_channels": 1}
        },
    }
    config = {
        "subsampling": subsampling,
        "reading": {"timeout": 60, "sampler": None, "yt_args": {}},
        "storage": {"number_sample_per_shard": 1000, "oom_shard_count": 5, "captions_are_subtitles": False},
        "distribution": {
            "processes_count": 1,
            "thread_count": 1,
            "subjob_size": 1000,
            "distributor": "multiprocessing",
        },
    }
    video2dataset(
        url_list=str(listing),
        output_folder=str(folder / "out"),
        output_format="webdataset",
        input_format="parquet",
        url_col="contentUrl",
        encode_formats={"video": "mp4", "audio": "flac"},  # its default `m4a` is no muxer of ffmpeg
        config=config,
    )


if __name__ == "__main__":
    main()
