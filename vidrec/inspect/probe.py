"""Running a network with its inside open: what it records, and how a score depends on the features of a stage."""

import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from vidrec.errors import UsageError, did_you_mean
from vidrec.inspect import LOOKS
from vidrec.models.registry import init_options

Clips = Float[Array, "b t h w 3"]


@functools.cache
def compiled(function: Callable[..., Any], *static: int) -> Callable[..., Any]:
    """jit for what runs once or twice: compiling it takes longer than running it."""
    return jax.jit(function, static_argnums=static, compiler_options=init_options())


def recorded(model: nn.Module, variables: Mapping[str, Any], clips: Clips) -> dict[str, Array]:
    """What a network in evaluation mode records (`sow`) of normalised clips, by path ("blocks_0/time_attention")."""
    return compiled(_recorded, 0)(model, variables, clips)


def _recorded(model: nn.Module, variables: Mapping[str, Any], clips: Clips) -> dict[str, Array]:
    _, state = model.apply(variables, clips, train=False, mutable=["intermediates"])
    sown: dict[str, Any] = flatten_dict(state.get("intermediates", {}), sep="/")
    return {name: values[0] for name, values in sown.items()}


def recorded_for(what: str, model: nn.Module, variables: Mapping[str, Any], clips: Clips) -> dict[str, Array]:
    """`recorded`, for a kind of maps; raises UsageError, which names those there are, where the network lacks it."""
    found = recorded(model, variables, clips)
    there = [name for name, look in LOOKS.items() if not look.needs or any(key.endswith(look.needs) for key in found)]
    if what not in there:
        raise UsageError(f"{type(model).__name__} has no {what} to look at; it has {', '.join(there)}")
    return found


def has_stages(model: Any) -> bool:
    """Whether a network is of a kind whose `stages` are known: ResNet or transformer."""
    return hasattr(model, "depth") or hasattr(model, "stage_sizes")


def stages(model: Any) -> dict[str, str]:
    """The stages of a network whose features can be asked for, in the order of computation: name -> its module.

    ResNets have stage2, stage3, ... and, of TCM, tcm3 (the module behind stage3); transformers patch_embed, blocks_0,
    ... A network of another kind is a UsageError.
    """
    if hasattr(model, "depth"):
        return {name: name for name in ("patch_embed", *(f"blocks_{i}" for i in range(model.depth)))}
    if not has_stages(model):
        raise UsageError(f"the stages of a {type(model).__name__} are not known: it is neither ResNet nor transformer")
    behind = model.tcm_stages if getattr(model, "parts", "none") != "none" else ()
    found = {}
    for stage, blocks in enumerate(model.stage_sizes, start=2):
        found[f"stage{stage}"] = f"layer{stage - 1}_{blocks - 1}"
        if stage in behind:
            found[f"tcm{stage}"] = f"tcm{stage}"
    return found


def default_stage(model: Any) -> str:
    """The last stage whose features reach the score cell by cell.

    Of a transformer that is the one before the last: behind the last block the classifier reads the cls token alone.
    """
    names = list(stages(model))
    return names[-2] if hasattr(model, "depth") else names[-1]


class ScoreGradient(NamedTuple):
    """How the scores of classes change with the features of a stage.

    Attributes:
      features: of the stage, `[B, T, H, W, C]`.
      gradient: of each clip's score by its features, in the same shape.
      logits: `[B, K]`.
      target: the class of each clip.
    """

    features: Float[Array, "b t h w c"]
    gradient: Float[Array, "b t h w c"]
    logits: Float[Array, "b k"]
    target: Int[Array, " b"]


def score_gradient(
    model: Any, variables: Mapping[str, Any], clips: Clips, stage: str, target: Int[Array, " b"] | None = None
) -> ScoreGradient:
    """The gradient of each clip's score of its target class (None: its best) by the features of a stage.

    Raises:
      UsageError: there is no such stage.
    """
    known = stages(model)
    if stage not in known:
        raise UsageError(f"{type(model).__name__} has no stage {stage!r}{did_you_mean(stage, known)}")
    found = compiled(_score_gradient, 0, 1)(model, known[stage], variables, clips, target)
    grid = partial(patch_grid, model=model, clips=clips) if hasattr(model, "depth") else lambda x: x
    return found._replace(features=grid(found.features), gradient=grid(found.gradient))


def _score_gradient(model: Any, module: str, variables: Any, clips: Clips, target: Any) -> ScoreGradient:
    """The same by the module's output as it is: zeros are added to it, and the score's gradient by them is taken."""
    if getattr(model, "remat", "none") != "none":  # what is recomputed would be added to twice
        model = model.clone(remat="none")

    def scores(shift: Any) -> tuple[Array, tuple[Array, Array, Array]]:
        """The sum of the clips' scores with a module's features shifted, and what came by on the way."""
        seen: list[Array] = []
        with nn.intercept_methods(partial(_shifted, module=(module,), shift=shift, seen=seen)):
            logits = model.apply(variables, clips, train=False).logits
        chosen = logits.argmax(-1) if target is None else jnp.asarray(target)
        return jnp.take_along_axis(logits, chosen[:, None], 1).sum(), (seen[0], logits, chosen)

    features = jax.eval_shape(scores, 0.0)[1][0]
    shift = jnp.zeros(features.shape, features.dtype)
    gradient, (features, logits, chosen) = jax.grad(scores, has_aux=True)(shift)
    return ScoreGradient(features, gradient, logits, chosen)


def _shifted(
    call: Callable[..., Any], args: Any, kwargs: Any, context: Any, *, module: tuple[str, ...], shift: Any, seen: list
) -> Any:
    """Calls a method of a module; adds `shift` to what the named module returns, or to its first part."""
    out = call(*args, **kwargs)
    if context.module.path != module or context.method_name != "__call__":
        return out
    seen.append(out[0] if isinstance(out, tuple) else out)
    return (out[0] + shift, *out[1:]) if isinstance(out, tuple) else out + shift


def patch_grid(tokens: Float[Array, "b s d"], *, model: Any, clips: Clips) -> Float[Array, "b t h w d"]:
    """The tokens of a transformer without the cls token, each at its frame, row and column."""
    rows, columns = (side // model.patch_size for side in clips.shape[2:4])
    patches = tokens[:, 1:].reshape(len(tokens), rows, columns, model.num_frames, -1)
    return jnp.moveaxis(patches, 3, 1)
