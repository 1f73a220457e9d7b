"""What the papers say their networks cost, for `vidrec summary --all` to put beside what they cost here.

Papers count differently: some add two operations per output of a BatchNorm (column "with norms"), some leave out
correlations or attention products; a difference that remains is told in the network's own file.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model


class Published(NamedTuple):
    """One row of a paper's table.

    Attributes:
      table: the paper and what the row is called there.
      model: name of the network here.
      fields: its fields, where they differ from the name's defaults.
      image_size: side, or (height, width), of the pictures.
      params: the paper's parameters in millions, if given.
      gflops: the paper's operations in 10^9 per clip, if given.
    """

    table: str
    model: str
    fields: dict[str, Any]
    image_size: int | tuple[int, int] = 224
    params: float | None = None
    gflops: float | None = None


SOMETHING = {"num_classes": 174}
KINETICS = {"num_classes": 400}

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
        {**SOMETHING, "modules": "cstm", "cstm_conv": "channelwise_2d"}, params=13.28, gflops=24.05,
    ),
    Published(
        "STM: CSTM, ordinary", "stm_resnet50", {**SOMETHING, "modules": "cstm", "cstm_conv": "ordinary"},
        params=27.64, gflops=40.59,
    ),
    Published("STM-50, 8 frames", "stm_resnet50", SOMETHING, params=24.0, gflops=33.3),
    Published("STM-50, 16 frames", "stm_resnet50", {**SOMETHING, "num_frames": 16}, params=24.0, gflops=66.5),
    Published("STM-18", "stm_resnet18", SOMETHING, params=11.0, gflops=14.6),
    Published("STM-34", "stm_resnet34", SOMETHING, params=20.5, gflops=29.4),
    Published("STM-50, concatenated", "stm_resnet50", {**SOMETHING, "fusion": "concat"}),
    Published("STM-50, degenerate", "stm_resnet50", {**SOMETHING, "degenerate": True}),
    *(
        Published(f"STM-50, placement: {where}", "stm_resnet50", {**SOMETHING, "placement": where})
        for where in ("2", "3", "4", "5", "first")
    ),
    Published("TCM: TSM-R18", "tsm_resnet18", SOMETHING, params=11.3, gflops=14.5),
    Published("TCM: TCM-R18", "tcm_resnet18", SOMETHING, params=11.5, gflops=16.4),
    Published("TSM-34", "tsm_resnet34", SOMETHING),
    Published("TCM-34", "tcm_resnet34", SOMETHING),
    Published("TCM: TSM-R50", "tsm_resnet50", SOMETHING, params=24.3, gflops=33.4),
    Published("TCM: TCM-R50", "tcm_resnet50", SOMETHING, params=24.5, gflops=35.3),
    Published("TCM: TSM-R101", "tsm_resnet101", SOMETHING, params=42.9, gflops=63.1),
    Published("TCM: TCM-R101", "tcm_resnet101", SOMETHING, params=43.1, gflops=65.0),
    Published("TCM: TEA-R50 + TCM", "tcm_resnet50", {**SOMETHING, "tcm_host": "tea"}, params=24.6, gflops=36.6),
    Published(
        "TCM: 3D-ResNeXt-101 + TCM, 16 frames", "tcm_resnet101",
        {**SOMETHING, "tcm_host": "resnext3d", "num_frames": 16}, 112, params=48.2, gflops=9.8,
    ),
    Published("TCM-R18 after res2", "tcm_resnet18", {**SOMETHING, "tcm_stages": (2,)}, gflops=17.5),
    Published("TCM-R18 after res4", "tcm_resnet18", {**SOMETHING, "tcm_stages": (4,)}, gflops=15.1),
    Published("TCM-R18 after res5", "tcm_resnet18", {**SOMETHING, "tcm_stages": (5,)}, gflops=14.7),
    Published("TCM-R18 after res2, 3", "tcm_resnet18", {**SOMETHING, "tcm_stages": (2, 3)}, gflops=19.4),
    Published("TCM-R18 after res2, 3, 4", "tcm_resnet18", {**SOMETHING, "tcm_stages": (2, 3, 4)}, gflops=20.0),
    Published("TCM-R18 after res2, 3, 4, 5", "tcm_resnet18", {**SOMETHING, "tcm_stages": (2, 3, 4, 5)}, gflops=20.2),
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
    Published("TDN-50", "tdn_resnet50", SOMETHING),
    Published("TDN-50, 16 segments", "tdn_resnet50", {**SOMETHING, "num_frames": 16}),
    Published("TTSN-50, 8 segments", "ttsn_resnet50", {"num_classes": 51}),
    Published("TTSN-50, 16 segments", "ttsn_resnet50", {"num_classes": 51, "num_frames": 16}),
    Published("TTSN-50 without TSS", "ttsn_resnet50", {"num_classes": 51, "tss": "none"}),
    Published("TTSN-50, separate embeddings", "ttsn_resnet50", {"num_classes": 51, "ett_embed": "separate"}),
    Published("DirecFormer", "direcformer_base", {**SOMETHING, "num_orders": 0}, params=121.4, gflops=196.0),
    Published("DirecFormer with 1000 permutations", "direcformer_base", SOMETHING),
    Published("TimeSformer", "timesformer_base", KINETICS, params=121.4, gflops=196.0),
)  # fmt: skip


def compare(rows: Sequence[Published]) -> list[dict[str, Any]]:
    """Measures each row's network: its own figures and the paper's, as plain values."""
    table = []
    for row in rows:
        model = create_model(row.model, **row.fields)
        summary = summarize(model, image_size=row.image_size)
        table.append(
            {
                "row": row.table,
                "model": row.model,
                "fields": row.fields,
                "input": list(summary.input_shape[1:]),
                "params": summary.params,
                "paper_mparams": row.params,
                "gmacs": round(summary.macs / 1e9, 3),
                "gmacs_with_norms": round((summary.macs + summary.bn_macs) / 1e9, 3),
                "paper_gflops": row.gflops,
            }
        )
    return table


def table_text(table: list[dict[str, Any]]) -> str:
    """The comparison as aligned lines."""

    def shown(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    lines = [("", "input", "M parameters", "paper", "G multiply-adds", "with norms", "paper")]
    for row in table:
        lines.append(
            (
                row["row"], "x".join(map(str, row["input"][:3])), f"{row['params'] / 1e6:.3f}",
                shown(row["paper_mparams"], 2), shown(row["gmacs"], 2), shown(row["gmacs_with_norms"], 2),
                shown(row["paper_gflops"], 2),
            )
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([*map(str.ljust, line[:2], widths[:2]), *map(str.rjust, line[2:], widths[2:])]) for line in lines
    )
