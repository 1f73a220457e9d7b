"""The card of an exported network for people: what it is, what it was trained on, how good it is, how to use it."""

from pathlib import Path
from typing import Any

from vidrec.files import atomic_write
from vidrec.inspect.results import evaluation_folders
from vidrec.inspect.run_folder import read_results
from vidrec.interop.export import Exported
from vidrec.train.report import read_metrics

_USE = {
    "stablehlo": """import jax, numpy as np
run = jax.export.deserialize(bytearray(open("{file}", "rb").read())).call   # needs jax and flatbuffers
scores = run(clips)   # clips: uint8 {shape}""",
    "onnx": """import onnxruntime
run = onnxruntime.InferenceSession("{file}").run
(scores,) = run(["scores"], {{"clips": clips}})   # clips: uint8 {shape}""",
    "safetensors": """from safetensors.numpy import load_file
weights = load_file("{file}")   # torch's names and axes; a checkpoint again: vidrec import --weights {file} --out D""",
}
_MOST_CLASSES = 40


def write_model_card(exported: Exported, start: dict[str, Any] | None, found: list[dict[str, Any]]) -> Path:
    """Writes the card beside an exported file, as FILE.md; returns its path. For arguments see `model_card`."""
    path = exported.path.with_name(f"{exported.path.name}.md")
    with atomic_write(path) as file:
        file.write(model_card(exported, start, found).encode())
    return path


def evaluations(workdir: Path) -> list[dict[str, Any]]:
    """{"split", "top1", ...} by `vidrec eval`, also by protocols; else by the last evaluation in training, if any."""
    if found := evaluation_folders(workdir):
        return [read_results(folder / "results.json") for folder in found]
    return [row for row in read_metrics(workdir / "metrics.jsonl") if row.get("kind") == "eval"][-1:]


def model_card(exported: Exported, start: dict[str, Any] | None, found: list[dict[str, Any]]) -> str:
    """The text, in Markdown.

    Args:
      start: last entry of the run's card (`vidrec.train.card.last`); None for weights that come from elsewhere.
      found: as of `evaluations`.
    """
    card = exported.card
    sections = {
        "How to use it": _use(exported),
        "How it was trained": _training(start),
        "How good it is": _metrics(found),
        "Classes": _classes(card["classes"]),
    }
    title = f"# {card['network']}, step {card['step']}\n\nA network that names the action in a video, made with vidrec."
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def _use(exported: Exported) -> str:
    card, file = exported.card, exported.path.name
    code = _USE[card["format"]].format(file=file, shape=card.get("input", {}).get("shape"))
    sampling, mean, std = card["sampling"], card["mean"], card["std"]
    text = [f"```python\n{code}\n```"]
    if card["format"] != "safetensors":
        text.append(f"Of whole videos: `vidrec predict --artifact {file} VIDEO...`")
    resize = sampling["resize"]
    resized = (
        f"a short side of {resize[0]} pixels" if len(resize) == 1 else " x ".join(map(str, resize)) or "no other size"
    )
    height, width = exported.picture
    text.append(
        f"A clip is {sampling['num_frames'] * sampling['frames_per_segment']} RGB frames chosen by "
        f"{sampling['sampling']} sampling, resized to {resized} and cut in the centre to {height} x {width} pixels"
        f"{_inside_of(card)}. Pixels are normalised by mean {mean} and std {std} of 0..1"
        + (", inside the file." if "inside" in card else ".")
    )
    return "\n\n".join(text)


def _inside_of(card: dict[str, Any]) -> str:
    if not card.get("frame_size"):
        return ""
    (height, width), pixels = card["frame_size"], card["checked"]["pixels"]
    return (
        f", which the file does with whole frames of {height} x {width} pixels (to {pixels['largest']:g} of 255 levels "
        f"as vidrec does, {pixels['mean']:.2g} on average)"
    )


def _training(start: dict[str, Any] | None) -> str:
    if start is None:
        return "Not here: its weights were imported."
    data, train, versions = start["data"], start["config"]["train"], start["versions"]
    length = f"{train['steps']} steps" if train["steps"] else f"{train['epochs']:g} epochs"
    rows = [
        ("Videos", f"{data['train']['videos']} of split {data['train']['split']} (digest {data['train']['digest']})"),
        ("Task", start["config"]["task"]["name"]),
        ("Length", f"{length} of {train['batch_size']} clips"),
        ("Optimizer", f"{start['config']['optim']['name']}, lr {start['config']['optim']['lr']:g}"),
        ("Configuration", f"fingerprint {start['fingerprint']}"),
        ("Software", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("Code", (start.get("git") or {}).get("commit") or "not under version control"),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _metrics(found: list[dict[str, Any]]) -> str:
    if not found:
        return "It was not evaluated here (`vidrec eval --workdir ...` does, before the export)."
    return "\n".join(f"- {_evaluation(one)}" for one in found)


def _evaluation(found: dict[str, Any]) -> str:
    names = [name for name in ("top1", "top5", "mean_class") if name in found]
    where = f" of split {found['split']}" if "split" in found else ""
    where += f" (digest {found['digest']})" if "digest" in found else ""
    where += f", at step {found['step']}" if "step" in found else ""
    views = f", {found['clips']} x {found['crops']} views each" if "crops" in found else ", one view each"
    views += f", protocol {found['protocol']}" if "protocol" in found else ""
    values = ", ".join(f"{name} {found[name]:.4f}" for name in names)
    return f"{values} on {found['videos']} videos{where}{views}."


def _classes(classes: list[str]) -> str:
    more = len(classes) - _MOST_CLASSES
    rest = f', and {more} more (see the card\'s "classes")' if more > 0 else ""
    return f"{len(classes)}, in the order of the scores: {', '.join(classes[:_MOST_CLASSES])}{rest}."
