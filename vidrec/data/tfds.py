"""Metadata that make a record folder a tensorflow-datasets data set as well: `tfds.builder_from_directory(folder)`.

TensorFlow users can so read the records; vidrec itself does not need these files.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from vidrec.data.manifest import Manifest

log = logging.getLogger(__name__)

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def write_metadata(directory: Path, info: Manifest) -> None:
    """Writes dataset_info.json, features.json and the label names into a record folder; equal folders get equal files.

    Where tensorflow-datasets cannot be imported, a warning says that they are missing.

    Args:
      directory: the record folder.
      info: what it holds.
    """
    try:
        import tensorflow_datasets as tfds
        from etils import epath
    except ImportError as error:
        log.warning("%s has no metadata for tensorflow-datasets, which cannot be imported: %s", directory, error)
        return
    splits = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[shard.records for shard in split.shards],
            num_bytes=sum(shard.bytes for shard in split.shards),
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=epath.Path(directory),
                template=_TEMPLATE,
                dataset_name=info.name,
                split=name,
                filetype_suffix="tfrecord",
            ),
        )
        for name, split in info.splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=_features(tfds.features, info),
        split_infos=splits,
        filename_template=_TEMPLATE,
        check_data=False,
    )


def _features(features: Any, info: Manifest) -> Any:
    if info.codec == "mp4":
        stored = {"video": features.Text()}  # of tensorflow-datasets' features, the one for bytes as they are
    elif info.codec == "jpeg":
        stored = {"frames": features.Sequence(features.Image(shape=(None, None, 3), encoding_format="jpeg"))}
    else:
        stored = {"frames": features.Sequence(features.Text())}
    texts = ("codec", "label_text", "video_id", "source")
    numbers = ("num_frames", "height", "width", "start_frame", "schema")
    return features.FeaturesDict(
        stored
        | {"label": features.ClassLabel(names=list(info.classes)), "fps": np.float32}
        | {name: features.Text() for name in texts}
        | dict.fromkeys(numbers, np.int64)
    )
