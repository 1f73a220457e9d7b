"""What the papers say their networks cost, for `vidrec summary --all` to put beside what they cost here.

Papers count differently: some add two operations per output of a BatchNorm (column "with norms"). Where a difference of
more than 1.5 % remains, the row's note says why.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model
from vidrec.text import aligned


class Published(NamedTuple):
    """One row of a paper's table.

    Attributes:
      table: the paper and what the row is called there.
      model: name of the network here.
      fields: its fields, where they differ from the name's defaults.
      image_size: side, or (height, width), of the pictures.
      params: the paper's parameters in millions, if given.
      gflops: the paper's operations in 10^9 per clip, if given.
      note: why the paper's figures are not met.
      stage: the part of the network that the row is about, as the summary names it; all of it by default.
    """

    table: str
    model: str
    fields: dict[str, Any]
    image_size: int | tuple[int, int] = 224
    params: float | None = None
    gflops: float | None = None
    note: str = ""
    stage: str = ""


SOMETHING = {"num_classes": 174}
KINETICS = {"num_classes": 400}
HMDB = {"num_classes": 51}
RESNEXT = {**SOMETHING, "tcm_host": "resnext3d", "num_frames": 16}
SEGMENTS = {**HMDB, "num_frames": 16}

BELOW_PLAIN = "the paper's parameters are below those of the plain ResNet, which STM only adds to"
LATE_STAGES = "the paper's figures are nearly those of such convolutions in stages 4 and 5 alone; here they are in all"
TCM_ADDS = "the paper adds 1.9 G and 0.2 M for a module behind res3; its layers count 0.3 to 0.6 G, 0.02 to 0.07 M"
ALL_CLASSES = "the paper's parameters are those of 400 classes; in another of its tables this network has 32.8 G"
ETT_SIZE = "the paper's 6.58 G are of four clips; its 2.20 M have room for one code of 8 frames, not for three of 16"
TSS_COST = "the paper's 1.62 G are of four clips, two per multiply-add; here an evaluation does without the branch"

# Where the paper of a network gives no cost, the row shows ours alone.
ROWS = (
    Published("TSN-18", "tsn_resnet18", SOMETHING),
    Published("TSN-34", "tsn_resnet34", SOMETHING),
    Published("STM: TSN-50", "tsn_resnet50", SOMETHING, params=23.8, gflops=32.9),
    Published("TSN-101", "tsn_resnet101", SOMETHING),
    Published("STM: CSTM only", "stm_resnet50", {**SOMETHING, "modules": "cstm"}, params=23.88, gflops=32.93),
    Published("STM: CMM only", "stm_resnet50", {**SOMETHING, "modules": "cmm"}, params=23.95, gflops=32.95),
    Published(
        "STM: CMM, ordinary 3x3", "stm_resnet50", {**SOMETHING, "modules": "cmm", "cmm_conv": "ordinary"},
        params=24.25, gflops=33.5,
    ),
    Published(
        "STM: CSTM, 1D and 2D channel-wise", "stm_resnet50",
        {**SOMETHING, "modules": "cstm", "cstm_conv": "channelwise_2d"}, params=13.28, gflops=24.05, note=LATE_STAGES,
    ),
    Published(
        "STM: CSTM, ordinary", "stm_resnet50", {**SOMETHING, "modules": "cstm", "cstm_conv": "ordinary"},
        params=27.64, gflops=40.59,
    ),
    Published("STM-50, 8 frames", "stm_resnet50", SOMETHING, params=24.0, gflops=33.3),
    Published("STM-50, 16 frames", "stm_resnet50", {**SOMETHING, "num_frames": 16}, params=24.0, gflops=66.5),
    Published("STM-18", "stm_resnet18", SOMETHING, params=11.0, gflops=14.6, note=BELOW_PLAIN),
    Published("STM-34", "stm_resnet34", SOMETHING, params=20.5, gflops=29.4, note=BELOW_PLAIN),
    Published("STM-50, concatenated", "stm_resnet50", {**SOMETHING, "fusion": "concat"}),
    Published("STM-50, degenerate", "stm_resnet50", {**SOMETHING, "degenerate": True}),
    *(
        Published(f"STM-50, placement: {where}", "stm_resnet50", {**SOMETHING, "placement": where})
        for where in ("2", "3", "4", "5", "first")
    ),
    Published("TCM: TSM-R18", "tsm_resnet18", SOMETHING, params=11.3, gflops=14.5),
    Published("TCM: TCM-R18", "tcm_resnet18", SOMETHING, params=11.5, gflops=16.4, note=TCM_ADDS),
    Published("TSM-34", "tsm_resnet34", SOMETHING),
    Published("TCM-34", "tcm_resnet34", SOMETHING),
    Published("TCM: TSM-R50", "tsm_resnet50", SOMETHING, params=24.3, gflops=33.4, note=ALL_CLASSES),
    Published("TCM: TCM-R50", "tcm_resnet50", SOMETHING, params=24.5, gflops=35.3, note=TCM_ADDS),
    Published("TCM: TSM-R101", "tsm_resnet101", SOMETHING, params=42.9, gflops=63.1),
    Published("TCM: TCM-R101", "tcm_resnet101", SOMETHING, params=43.1, gflops=65.0, note=TCM_ADDS),
    Published("TCM: TEA-R50", "tcm_resnet50", {**SOMETHING, "tcm_host": "tea", "parts": "none"}),
    Published(
        "TCM: TEA-R50 + TCM", "tcm_resnet50", {**SOMETHING, "tcm_host": "tea"}, params=24.6, gflops=36.6, note=TCM_ADDS
    ),
    Published("TCM: 3D-ResNeXt-101, 16 frames", "tcm_resnet101", {**RESNEXT, "parts": "none"}, 112),
    Published("TCM: 3D-ResNeXt-101 + TCM, 16 frames", "tcm_resnet101", RESNEXT, 112, params=48.2, gflops=9.8),
    *(
        Published(
            f"TCM-R18 after res{', '.join(map(str, stages))}", "tcm_resnet18", {**SOMETHING, "tcm_stages": stages},
            gflops=gflops, note=TCM_ADDS,
        )
        for stages, gflops in (
            ((2,), 17.5), ((4,), 15.1), ((5,), 14.7), ((2, 3), 19.4), ((2, 3, 4), 20.0), ((2, 3, 4, 5), 20.2),
        )
    ),
    *(
        Published(f"TCM-R18, parts: {parts}", "tcm_resnet18", {**SOMETHING, "parts": parts})
        for parts in ("none", "mtdm", "tam")
    ),
    *(
        Published(f"TCM-R18, {tempo} alone", "tcm_resnet18", {**SOMETHING, "tempos": (tempo,)})
        for tempo in ("fast", "slow")
    ),
    Published("TEFE, 8 frames", "tefe_resnet50", SOMETHING, (224, 256), gflops=90.0),
    Published("TEFE, 16 frames", "tefe_resnet50", {**SOMETHING, "num_frames": 16}, (224, 256), gflops=181.0),
    *(
        Published(f"TEFE: TE {te}, FE {fe}", "tefe_resnet50", {**SOMETHING, "te": te, "fe": fe})
        for te, fe in (
            ((1, 1, 1, 1), (0, 0, 0, 0)), ((0, 0, 0, 0), (0, 3, 5, 2)),
            ((3, 4, 6, 3), (0, 0, 0, 0)), ((0, 0, 0, 0), (0, 4, 6, 3)),
            ((3, 3, 3, 3), (0, 1, 3, 0)), ((2, 2, 2, 2), (0, 2, 4, 1)), ((1, 1, 1, 1), (0, 3, 5, 2)),
        )
    ),
    Published("TEFE, TE before conv2", "tefe_resnet50", {**SOMETHING, "te_position": "before_conv2"}),
    Published("TEFE, FE first", "tefe_resnet50", {**SOMETHING, "block_order": "fe_first"}),
    Published("TDN-50", "tdn_resnet50", SOMETHING),
    Published("TDN-50, 16 segments", "tdn_resnet50", {**SOMETHING, "num_frames": 16}),
    Published("TTSN-50, 8 segments", "ttsn_resnet50", HMDB),
    Published("TTSN-50, 16 segments", "ttsn_resnet50", SEGMENTS),
    Published("TTSN-50 without ETT", "ttsn_resnet50", {**HMDB, "ett": False}),
    Published("TTSN-50 without TSS", "ttsn_resnet50", {**HMDB, "tss": "none"}),
    *(Published(f"TTSN-50, TSS: {tss}", "ttsn_resnet50", {**HMDB, "tss": tss}) for tss in ("aa", "ra", "ar")),
    Published("TTSN-50, order head per clip", "ttsn_resnet50", {**HMDB, "tss_head": "clip"}),
    Published("TTSN-50, separate embeddings", "ttsn_resnet50", {**HMDB, "ett_embed": "separate"}),
    *(Published(f"TTSN-50 on {name.upper()}", "ttsn_resnet50", {**HMDB, "backbone": name}) for name in ("tsm", "tsn")),
    Published(
        "TTSN: ETT alone, separate, 16 segments", "ttsn_resnet50", {**SEGMENTS, "ett_embed": "separate"},
        params=2.2, gflops=6.58 / 4, note=ETT_SIZE, stage="ett",
    ),
    Published(
        "TTSN: TSS alone, 16 segments", "ttsn_resnet50", SEGMENTS,
        params=12.59, gflops=1.62 / 4, note=TSS_COST, stage="order",
    ),
    Published("DirecFormer", "direcformer_base", {**SOMETHING, "num_orders": 0}, params=121.4, gflops=196.0),
    Published("DirecFormer with 1000 permutations", "direcformer_base", SOMETHING),
    Published("DirecFormer, norm of the orders", "direcformer_base", {**SOMETHING, "separate_norms": True}),
    Published("DirecFormer, cls key in time", "direcformer_base", {**SOMETHING, "time_cls_key": True}),
    *(
        Published(
            f"DirecFormer, {time} in time, {space} in space", "direcformer_base",
            {**SOMETHING, "time_attn": time, "space_attn": space},
        )
        for time, space in (("cosine", "cosine"), ("softmax", "cosine"), ("softmax", "softmax"))
    ),
    Published("TimeSformer", "timesformer_base", KINETICS, params=121.4, gflops=196.0),
)  # fmt: skip


def compare(
    rows: Sequence[Published], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[dict[str, Any]]:
    """Measures each row's network: its own figures and the paper's, as plain values."""
    table = []
    for done, row in enumerate(rows):
        progress(done, len(rows))
        summary = summarize(create_model(row.model, **row.fields), image_size=row.image_size)
        cost = {"": summary, **{stage.name: stage for stage in summary.stages}}[row.stage]
        table.append(
            {
                "row": row.table,
                "model": row.model,
                "fields": row.fields,
                "input": list(summary.input_shape[1:]),
                "stage": row.stage,
                "params": cost.params,
                "paper_mparams": row.params,
                "gmacs": round(cost.macs / 1e9, 3),
                "gmacs_with_norms": round((cost.macs + cost.bn_macs) / 1e9, 3),
                "paper_gflops": row.gflops,
                "note": row.note,
            }
        )
    return table


def table_text(table: list[dict[str, Any]]) -> str:
    """The comparison as aligned lines, and below them the notes, by number."""

    def shown(value: float | None, digits: int) -> str:
        """A number as it stands in the table; none is empty."""
        return "" if value is None else f"{value:.{digits}f}"

    notes = list(dict.fromkeys(row["note"] for row in table if row["note"]))
    lines = [("", "input", "M parameters", "paper", "G multiply-adds", "with norms", "paper", "note")]
    for row in table:
        lines.append(
            (
                row["row"], "x".join(map(str, row["input"][:3])), f"{row['params'] / 1e6:.3f}",
                shown(row["paper_mparams"], 2), shown(row["gmacs"], 2), shown(row["gmacs_with_norms"], 2),
                shown(row["paper_gflops"], 2), str(notes.index(row["note"]) + 1) if row["note"] else "",
            )
        )  # fmt: skip
    return "\n".join([aligned(lines, left=2), *(f"{number} {note}" for number, note in enumerate(notes, 1))])
