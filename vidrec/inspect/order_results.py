"""`vidrec eval --order`: whether a run's network uses the order of frames, and the order that its attention tells."""

import io
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from vidrec.eval.order import LONGEST, chance, no_attention
from vidrec.eval.reordered import WAYS, Reordered, evaluate_reordered
from vidrec.eval.statistics import mean_interval, share_interval, sign_test
from vidrec.inspect.prepared import Choices, is_lead, open_run, results_folder, write_results

UNLIKELY = 0.05  # a difference that chance makes less often than this counts as one


def order_run(
    workdir: str | Path, *, step: int | None = None, out: str | None = None, **choices: Unpack[Choices]
) -> tuple[dict[str, Any], str]:
    """Evaluates a run's network on one clip of each video, in order, shuffled, reversed and frozen.

    Where the network has an attention in time, the order of the shuffled frames is read off it, too (DirecFormer,
    Eq. 15). Writes to `out` (default WORKDIR/eval): order.json and order.npz (orders and, where there is one,
    attention).

    Returns:
      (results as for JSON, text for a terminal)
    """
    run = open_run(workdir, step=step, **choices)
    model = run.recognizer.model
    with run.on_devices() as (mesh, variables):
        found = evaluate_reordered(model, variables, run.source, run.config, mesh, show=is_lead())
    result = run.facts(workdir) | run.clip_facts() | order_counts(found)
    folder = results_folder(workdir, out)
    write_results(folder, "order", result, {"order.npz": order_arrays(found)})
    why = "" if found.attention is not None else no_attention(model)
    return result, f"{order_text(result, why)}\nMaps and orders: {folder}"


def order_counts(found: Reordered) -> dict[str, Any]:
    """All that is counted, as for JSON; intervals of 95 %, OrderAcc in percent."""
    correct = {way: found.evaluations[way].correct() for way in WAYS}
    result: dict[str, Any] = {
        "videos": int(found.read.sum()),
        "unreadable": int((~found.read).sum()),
        "top1": {way: float(right.mean()) for way, right in correct.items()},
        "intervals": {way: share_interval(right) for way, right in correct.items()},
        "p": {way: sign_test(correct["normal"], correct[way]) for way in WAYS[1:]},
    }
    lost = result["top1"]["normal"] - result["top1"]["shuffled"]
    result["uses_order"] = lost > 0 and result["p"]["shuffled"] < UNLIKELY
    if (signs := found.signs_right()) is not None:
        accuracies = found.order_accuracies()
        result["order_accuracy"] = {rule: float(np.mean(values)) for rule, values in accuracies.items()}
        ends = {rule: np.clip(mean_interval(values), 0, 100).tolist() for rule, values in accuracies.items()}
        result |= {"order_intervals": ends, "order_chance": chance(found.orders.shape[1]), "signs_right": signs}
    return result


def order_arrays(found: Reordered) -> bytes:
    """What order.npz holds."""
    arrays = {"video_ids": np.array(found.evaluations["normal"].video_ids), "orders": found.orders, "read": found.read}
    if found.attention is not None:
        arrays["attention"] = found.attention
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def order_text(result: dict[str, Any], why: str = "") -> str:
    """The accuracies, what they say, and OrderAcc by each rule or the reason why there is none."""
    lines = [f"{result['videos']} videos, one clip each; top-1 (95 % interval) when its frames are"]
    for way, value in result["top1"].items():
        low, high = result["intervals"][way]
        lines.append(f"  {way:9} {value:.4f} ({low:.4f} to {high:.4f})")
    lost = 100 * (result["top1"]["normal"] - result["top1"]["shuffled"])
    told = "this network uses the order of frames, and these videos reward it"
    if not result["uses_order"]:
        told = (
            "no sign that this network uses the order of frames; only one that does can tell whether the videos need it"
        )
    lines.append(f"Shuffling costs {lost:.1f} points (p = {result['p']['shuffled']:.2g}): {told}.")
    if "order_accuracy" not in result:
        return "\n".join([*lines, f"{why}." if why else ""]).rstrip()
    lines.append(f"OrderAcc in percent (chance {result['order_chance']:.1f}), by the path on")
    for rule, value in result["order_accuracy"].items():
        low, high = result["order_intervals"][rule]
        lines.append(f"  {rule:8} {value:5.1f} ({low:.1f} to {high:.1f}){'  as in the paper' * (rule == 'raw')}")
    if "raw" not in result["order_accuracy"]:
        lines.append(f"  (no exact path through more than {LONGEST} frames)")
    lines.append(f"Signs of the attention that are right: {result['signs_right']:.1%}")
    return "\n".join(lines)
