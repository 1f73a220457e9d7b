"""A trained network made ready for an evaluation: its records opened, its weights on all devices."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import check
from vidrec.data.clips import ClipSpec
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError
from vidrec.eval.predict import Recognizer, load
from vidrec.files import atomic_write, write_json
from vidrec.train.sharding import at_rest, check_batch, make_mesh
from vidrec.train.start import open_eval_records


class Choices(TypedDict, total=False):
    """On what a run's network is evaluated; where one is left out or None, as in the run.

    Attributes:
      records: folder of records.
      split: of the records.
      batch_size: clips of a global batch.
    """

    records: str | None
    split: str | None
    batch_size: int | None


class Prepared(NamedTuple):
    """A network and the records it is evaluated on.

    Attributes:
      config: of the evaluation; the recognizer's own is that of its training.
      source: the records of `config.data.eval_split`.
    """

    recognizer: Recognizer
    config: FrozenConfigDict
    source: TFRecordSource

    @property
    def spec(self) -> ClipSpec:
        """How a clip is made of a video."""
        model = self.recognizer.model
        return ClipSpec.from_config(self.config, model.num_frames, model.clip_length)

    @contextmanager
    def on_devices(self) -> Iterator[tuple[Mesh, dict[str, Any]]]:
        """Gives the mesh of all devices, which is set, and the weights on it.

        Raises:
          UsageError: a batch does not split over the devices.
        """
        mesh = make_mesh(self.config.mesh)
        check_batch(self.config.eval.batch_size, mesh, "--batch-size")
        variables = jax.device_get(self.recognizer.variables)
        with jax.set_mesh(mesh):
            yield mesh, jax.device_put(variables, at_rest(variables, mesh))

    def facts(self, workdir: str | Path) -> dict[str, Any]:
        """What was evaluated, on what: the first fields of every result."""
        return {
            "workdir": str(workdir),
            "step": self.recognizer.step,
            "records": self.config.data.records,
            "split": self.config.data.eval_split,
            "digest": self.source.digest,
            "num_frames": self.recognizer.model.num_frames,
        }

    def clip_facts(self) -> dict[str, Any]:
        """Which frames of a video, and how large, the network saw."""
        spec = self.spec
        stride = {"stride": spec.stride} if spec.sampling == "strided" else {}
        return {"frames": spec.sampling, **stride, "resize": list(spec.resize), "picture": list(spec.picture)}


def open_run(workdir: str | Path, *, step: int | None = None, **choices: Unpack[Choices]) -> Prepared:
    """Loads the network of a run and opens the records that it is evaluated on.

    Raises:
      UsageError: no checkpoint there, or the records have other classes than the network.
    """
    recognizer = load(workdir, step=step)
    return prepare(recognizer, changed_config(recognizer.config, workdir, {}, **choices))


def prepare(recognizer: Recognizer, config: FrozenConfigDict) -> Prepared:
    """Opens the records of a configuration.

    Raises:
      UsageError: they have other classes than the network.
    """
    source = open_eval_records(config)
    if tuple(source.classes) != recognizer.classes:
        raise UsageError(
            f"{config.data.records} has other classes ({len(source.classes)}), or another order of them, than the "
            f"network was trained on ({len(recognizer.classes)}): evaluate on the records of that data set"
        )
    return Prepared(recognizer, config, source)


def changed_config(
    config: FrozenConfigDict,
    workdir: str | Path,
    fields: Mapping[str, Mapping[str, Any]],
    *,
    records: str | None = None,
    split: str | None = None,
    batch_size: int | None = None,
) -> FrozenConfigDict:
    """A run's configuration with other data (see `Choices`) and other fields, by section and name; checked."""
    new = ConfigDict(config.to_dict())
    new.data.update(without_none(records=records, eval_split=split))
    new.eval.update(without_none(batch_size=batch_size))
    for section, values in fields.items():
        new[section].update(values)
    check(new, str(workdir))
    return FrozenConfigDict(new)


def is_lead() -> bool:
    """Whether this process is the one that shows progress and writes results."""
    return jax.process_index() == 0


def results_folder(workdir: str | Path, out: str | None, *below: str) -> Path:
    """Where results go: `out`, or WORKDIR/eval and what is below it."""
    return Path(out) if out else Path(workdir, "eval", *below)


def write_results(folder: Path, name: str, result: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> None:
    """Writes FOLDER/NAME.json and other files, by the lead process alone."""
    if not is_lead():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, data in (files or {}).items():
        with atomic_write(folder / file_name) as file:
            file.write(data)
    write_json(folder / f"{name}.json", result)


def without_none(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
