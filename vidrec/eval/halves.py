"""A network cut in two: what looks at every frame on its own, and the rest, which sees the frames of a clip together.

The parts of a ResNet here are its stem, each stage, and what follows each stage. Which of them keep the frames apart is
tried on the network itself, so that it holds for variants of the papers' networks and for a user's own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidrec.models.registry import init_options
from vidrec.models.resnet import Features
from vidrec.train.state import Network

Variables = dict[str, Any]
Part = Callable[[Features], Features]

_PARTS = {"stem_features": 0, "stage_features": 1, "after_stage": 1}  # method of ResNet -> position of what it changes


class Halves(NamedTuple):
    """Two functions that are the network one after the other.

    Attributes:
      depth: parts in the first half: 0 none, 1 the stem, then two for each stage.
      frame: (variables, normalised frame `[H, W, 3]`) -> its features, `[h, w, c]`.
      clip: (variables, features `[T, h, w, c]`) -> logits `[K]`.
    """

    depth: int
    frame: Callable[[Variables, Float[Array, "h w 3"]], Float[Array, "_h _w _c"]]
    clip: Callable[[Variables, Float[Array, "t _h _w _c"]], Float[Array, " k"]]

    @property
    def kept(self) -> str:
        """What the first half is, in words; "" where it is nothing."""
        stage = 1 + self.depth // 2
        return {0: "", 1: "stem"}.get(self.depth, f"stem to stage {stage}")


def halve(model: Network, variables: Variables, size: tuple[int, int]) -> Halves:
    """Cuts a network before the first part in which a frame's features depend on other frames.

    The first half is empty for networks that are no `ResNet` here, for those on TDN, whose stem sees five frames, and
    for 3D ones.

    Args:
      size: (height, width) of the frames.
    """
    depth, length = frames_apart(model, variables, size), model.clip_length

    def frame(variables: Variables, picture: Float[Array, "h w 3"]) -> Any:
        """The first half. What the network makes of it behind is not used, and so not computed."""
        found = [picture]

        def visit(number: int, part: Part, x: Features) -> Features:
            """Computes parts of the first half for one frame."""
            if number >= depth:
                return part(x)
            found.append(part(x[:, :1])[0, 0])
            return jnp.broadcast_to(found[-1], (1, length, *found[-1].shape))

        walk(model, variables, jnp.broadcast_to(picture, (1, length, *picture.shape)), visit)
        return found[-1]

    def clip(variables: Variables, features: Float[Array, "t _h _w _c"]) -> Float[Array, " k"]:
        """The second half. What stands for pictures is not used."""
        if not depth:
            return model.apply(variables, features[None], train=False).logits[0]
        pictures = jnp.zeros((1, length, *size, 3))
        return walk(model, variables, pictures, lambda number, part, x: features[None] if number < depth else part(x))[
            0
        ]

    return Halves(depth, frame, clip)


def walk(
    model: Network, variables: Variables, clips: Float[Array, "b t h w 3"], visit: Callable[[int, Part, Features], Any]
) -> Float[Array, "b k"]:
    """The network's logits, each of its parts being what `visit(number, part, features)` returns."""
    number, inside = 0, False

    def intercept(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        """Hands the call of a part to `visit`, unless it is made within another."""
        nonlocal number, inside
        if inside or context.method_name not in _PARTS:
            return call(*arguments, **options)
        place = _PARTS[context.method_name]
        before, x, after = arguments[:place], arguments[place], arguments[place + 1 :]
        inside = True  # a part may call that of its parent class
        result = visit(number, lambda x: call(*before, x, *after, **options), x)
        number, inside = number + 1, False
        return result

    with nn.intercept_methods(intercept):
        return model.apply(variables, clips, train=False).logits


def frames_apart(model: Network, variables: Variables, size: tuple[int, int]) -> int:
    """How many parts, from the first on, give a frame the same features whatever and wherever the others are.

    Of three clips, one has NaN as its first frame and one as its middle frame, which must stay there; the third has the
    same frame everywhere, which must be everywhere the same.
    """
    length = model.clip_length
    holes = np.zeros((3, length), bool)
    holes[0, 0] = holes[1, length // 2] = True

    def look(variables: Variables, clips: Float[Array, "3 t h w 3"]) -> list[Array]:
        """For each part, whether it keeps frames apart."""
        found = []

        def visit(number: int, part: Part, x: Features) -> Features:
            """Looks at what a part gives."""
            y = part(x)
            found.append(jnp.array(False) if y.shape[1] != length else keeps_apart(y, holes))
            return y

        walk(model, variables, clips, visit)
        return found

    noise = jax.random.normal(jax.random.key(0), (3, length, *size, 3)).at[2, 1:].set(0)
    clips = jnp.where(holes[:, :, None, None, None], jnp.nan, noise.at[2].set(noise[2, 0]))
    tried_once = jax.jit(look, compiler_options=init_options())
    found = [bool(one) for one in tried_once(variables, clips)]
    return [*found, False].index(False)


def keeps_apart(y: Features, holes: np.ndarray) -> Array:
    """Whether the NaN of features stand where the holes are, and a clip without any is the same in all its frames."""
    lost = jnp.isnan(y).any((2, 3, 4))
    still = y[2].astype(jnp.float32)
    return (lost == holes).all() & jnp.allclose(still, still[:1], rtol=1e-3, atol=1e-3 * jnp.abs(still).max())
