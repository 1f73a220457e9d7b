"""What `vidrec compile` found, as text for people."""

from typing import Any

from vidrec.inspect.flops import OTHER


def text(report: dict[str, Any]) -> str:
    """The report of `vidrec.launch.compile.compile_for` as lines."""
    where, batch = report["topology"], report["batch"]
    axes = " x ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    lines = [
        f"{report['model']}, {report['parameters']:,} parameters, on {where['name']}: {where['devices']} x "
        f"{where['device']}, hosts: {where['hosts']} ({axes}); JAX {report['versions']['jax']}"
        + ("" if report["versions"]["full"] else ", with the least optimisation"),
        f"batch of {batch['train']} clips, {batch['per_device']} on each device"
        + (f": {batch['reason']}" if batch["reason"] else ""),
        "state on each device: "
        + ", ".join(f"{_NAMES[name]} {_bytes(size)}" for name, size in report["state_bytes"].items() if name in _NAMES),
    ]
    if not report["fits"]:
        lines.append("This batch does not fit.")
    for step in ("train", "eval"):
        if step in report:
            lines += ["", *_step(step, report[step], where["memory_bytes"])]
    if found := report.get("largest_batch"):
        lines += [
            "",
            f"largest batch that fits: {found['per_device']} clips on each device, {found['global']} in all "
            f"({found['too_many']} on each do not)",
        ]
    return "\n".join(lines)


_NAMES = {"params": "weights", "batch_stats": "running statistics", "opt_state": "optimizer", "ema": "average"}
_TITLES = {"train": "training step", "eval": "evaluation step"}


def _step(name: str, step: dict[str, Any], usable: int | None) -> list[str]:
    memory, flops, found, roof = step["memory"], step["flops"], step["collectives"], step["roofline"]
    share = f" of {_bytes(usable)}, {memory['total'] / usable:.0%}" if usable else ""
    kinds = ", ".join(f"{kind} {_bytes(memory[kind])}" for kind in memory if kind != "total")
    stages = ", ".join(f"{stage} {part:.0%}" for stage, part in flops["stages"].items() if stage != OTHER)
    lines = [
        f"{_TITLES[name]}, on each device (compiled in {step['seconds']['compile']:.0f} s)",
        f"  memory       {_bytes(memory['total'])}{share}: {kinds}",
        f"  operations   {flops['counted'] / 1e9:,.1f} G by the compiler's count; of matrix products, with the zeros "
        f"that pad them, {flops['matrix'] / 1e9:,.1f} G ({stages})",
    ]
    if step["bytes_accessed"]:
        lines.append(f"  memory read and written {_bytes(step['bytes_accessed'])}, by the compiler's count")
    lines.append(f"  collectives  {found['count']}, sending {_bytes(found['wire_bytes'])}")
    for kind, of in found["kinds"].items():
        lines.append(f"    {of['count']:>5} {kind} of {_bytes(of['bytes'])}")
    for one in found["largest"][:3]:
        times = f" x {one['times']}" if one["times"] > 1 else ""
        lines.append(
            f"    largest: {one['kind']} of {_bytes(one['bytes'])}{times} over {one['group']}: {_origin(one['name'])}"
        )
    if step["kernels"]:
        lines.append("  kernels      " + ", ".join(f"{kernel} x {n}" for kernel, n in step["kernels"].items()))
    return [*lines, *_roof(roof)]


def _roof(roof: dict[str, Any]) -> list[str]:
    if not roof["bound"]:
        return ["  time         not estimated: the device's limits are not known"]
    parts = ", ".join(
        f"{name} {seconds * 1e3:.2f} ms" for name, seconds in roof["seconds"].items() if seconds and name != "step"
    )
    used = f", utilisation at most {roof['utilisation']:.0%}" if roof["utilisation"] else ""
    return [f"  time         at least {roof['seconds']['step'] * 1e3:.2f} ms by {roof['bound']} ({parts}){used}"]


def _origin(name: str) -> str:
    """The first of the operations that were joined in one."""
    first = name.replace("/(", "/").partition(":")[0]
    return first if first == name else f"{first} and others"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"
