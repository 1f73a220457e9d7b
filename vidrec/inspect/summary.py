"""Parameters, multiply-adds and shapes of a network, found by tracing alone: nothing is computed or allocated."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from vidrec.text import aligned


@dataclasses.dataclass(frozen=True)
class Row:
    """One stage of a network: its output shape, parameters, multiply-adds, those of its norms, and activations."""

    name: str
    shape: tuple[int, ...]
    params: int
    macs: int
    bn_macs: int
    activations: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a network costs.

    Attributes:
      input_shape: clips the figures are for, `[B, T, H, W, 3]`.
      params: trainable parameters (running statistics not counted).
      macs: multiply-adds of convolutions and dense layers in one forward pass.
      bn_macs: two per output of a BatchNorm, which some counters (thop) add and many tables therefore include.
      activations: values put out by those layers; times bytes a value, about what training keeps without remat.
      stages: the same by stage, in order of computation; last, without a shape, what only training uses.
    """

    input_shape: tuple[int, ...]
    params: int
    macs: int
    bn_macs: int
    activations: int
    stages: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """An aligned table, one line per stage."""
        lines = [("stage", "output", "params", "M multiply-adds", "M activations")]
        for row in self.stages:
            lines.append((row.name, "x".join(map(str, row.shape)), *figures(row)))
        lines.append(("total", "", *figures(self)))
        table = aligned(lines, left=2)
        clips, gmac = "x".join(map(str, self.input_shape)), self.macs / 1e9
        return (
            f"{table}\n"
            f"Input {clips}: {self.params:,} parameters ({4 * self.params / 2**20:.1f} MiB in float32), "
            f"{gmac:.3f} G multiply-adds ({gmac + self.bn_macs / 1e9:.3f} G with 2 per BatchNorm output), "
            f"{4 * self.activations / 2**20:.0f} MiB of activations in float32, half of it in bfloat16"
        )


def figures(of: Row | Summary) -> tuple[str, str, str]:
    """Parameters, multiply-adds and activations as text."""
    return f"{of.params:,}", f"{of.macs / 1e6:,.1f}", f"{of.activations / 1e6:,.1f}"


def summarize(model: Any, *, image_size: int | tuple[int, int], batch: int = 1) -> Summary:
    """Returns what `model` costs on `batch` clips of pictures of the given side, or (height, width).

    Counts every module that owns a `kernel`, each time it runs: outputs times kernel size over its output channels. A
    module whose own arithmetic is otherwise (a correlation, a product of attention) tells it by a method
    `multiply_adds(output, *inputs)`, without what its submodules do.
    Raises what the network raises for such clips.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    shape = (batch, model.clip_length, height, width, 3)
    calls, variables, sown = trace(model, shape)
    params = cast(dict[tuple[str, ...], Any], flatten_dict(variables["params"]))
    owners = {stage_of(path[0]) for path in params}  # a stage without parameters (dropout) is no row
    last = {call.stage: call.shape for call in calls if call.depth == 1}
    rows = tuple(
        Row(
            name=stage,
            shape=sown.get(stage, last.get(stage, ())),
            params=sum(leaf.size for path, leaf in params.items() if stage_of(path[0]) == stage),
            macs=total(calls, stage, lambda call: call.macs),
            bn_macs=total(calls, stage, lambda call: call.bn_macs),
            activations=total(calls, stage, lambda call: call.activations),
        )
        for stage in dict.fromkeys([*(call.stage for call in calls if call.stage in owners), *sorted(owners)])
    )
    return Summary(
        input_shape=shape,
        params=sum(leaf.size for leaf in params.values()),
        macs=sum(row.macs for row in rows),
        bn_macs=sum(row.bn_macs for row in rows),
        activations=sum(row.activations for row in rows),
        stages=rows,
    )


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module while the network was traced."""

    stage: str
    depth: int
    shape: tuple[int, ...]
    macs: int
    bn_macs: int
    activations: int


def trace(model: Any, shape: tuple[int, ...]) -> tuple[list[Call], dict[str, Any], dict[str, tuple[int, ...]]]:
    """Initialises the network abstractly: (its modules' calls, shapes of its variables, shapes of what it sows)."""
    calls: list[Call] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        """Notes what a call of a module costs."""
        out = call(*args, **kwargs)
        path = context.module.path
        if context.method_name == "__call__" and path and jax.tree.leaves(out):
            calls.append(measure(context.module, path, out, args))
        return out

    def run() -> Any:
        """Starts the network and calls it once."""
        clips = jnp.zeros(shape)
        variables = model.init(jax.random.key(0), clips, train=False)
        with nn.intercept_methods(record):
            _, sown = model.apply(variables, clips, train=False, mutable=["intermediates"])
        return variables, sown

    variables, sown = jax.eval_shape(run)
    shapes = {name: value[0].shape for name, value in sown.get("intermediates", {}).items() if isinstance(value, tuple)}
    return calls, variables, shapes


def measure(module: nn.Module, path: tuple[str, ...], out: Any, inputs: tuple[Any, ...]) -> Call:
    """Counts one call: of a module that counts itself, has a kernel, is a BatchNorm, or anything else."""
    first = jax.tree.leaves(out)[0]
    size = int(np.prod(first.shape))
    is_norm = module.has_variable("batch_stats", "mean")
    macs = 0
    if count := getattr(module, "multiply_adds", None):
        macs = int(count(out, *inputs))
    elif module.has_variable("params", "kernel"):
        kernel = module.get_variable("params", "kernel")
        macs = size // kernel.shape[-1] * kernel.size
    counted = size if macs or is_norm else 0
    return Call(stage_of(path[0]), len(path), first.shape, macs, 2 * size if is_norm else 0, counted)


def total(calls: Iterable[Call], stage: str, figure: Callable[[Call], int]) -> int:
    """Sums a figure over the calls of a stage."""
    return sum(figure(call) for call in calls if call.stage == stage)


def stage_of(name: str) -> str:
    """Returns the stage a top-level module belongs to: a ResNet's stem, stage2..5 and head, else the module itself."""
    if match := re.fullmatch(r"layer(\d+)_\d+", name):
        return f"stage{int(match[1]) + 1}"
    return {"conv1": "stem", "bn1": "stem", "fc": "head"}.get(name, name)
