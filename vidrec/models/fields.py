"""Checks of a network's fields: a wrong value is refused when the network is made, by name."""

from collections.abc import Iterable, Sequence

from vidrec.errors import UsageError, VidrecError, did_you_mean


def check_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raises UsageError naming `field` unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        raise UsageError(f"{field}={value!r} is not one of the known values{did_you_mean(str(value), choices)}")


def check_has_effect(field: str, has_effect: bool, reason: str) -> None:
    """Raises UsageError unless a field, changed from its default, `has_effect`; `reason` says why not."""
    if not has_effect:
        raise UsageError(f"{field} has no effect here: {reason}; remove {field} or change the other field")


def check_per_stage(**lengths: int) -> None:
    """Raises UsageError unless all the fields that hold one value per stage are equally long, and there are stages."""
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        listed = ", ".join(f"{field} has {length}" for field, length in lengths.items())
        raise UsageError(f"fields with one value per stage must be equally long and not empty, but {listed}")


def check_at_least(minimum: int, **values: float | Iterable[float]) -> None:
    """Raises UsageError naming the field unless each value, or each of its numbers, is `minimum` or more."""
    for field, value in values.items():
        numbers = value if isinstance(value, Iterable) else (value,)
        if any(number < minimum for number in numbers):
            raise UsageError(f"{field}={value} must be {minimum} or more")


def check_probability(**values: float) -> None:
    """Raises UsageError naming the field unless each value is at least 0 and below 1."""
    for field, value in values.items():
        if not 0 <= value < 1:
            raise UsageError(f"{field}={value} is a probability: it must be at least 0, below 1")


def check_computation(dtype: object, remat: str) -> None:
    """Raises UsageError unless every network can be computed in this type, with its blocks recomputed or not."""
    check_choice("remat", remat, ("none", "block"))
    if isinstance(dtype, str):
        check_choice("dtype", dtype, ("float32", "bfloat16", "float16"))


def check_clips(shape: Sequence[int], num_frames: int, clip_length: int) -> None:
    """Raises VidrecError unless a `shape` of clips is `[B, clip_length, H, W, 3]`."""
    if len(shape) != 5 or shape[1] != clip_length or shape[-1] != 3:
        raise VidrecError(
            f"clips have shape {list(shape)}, but this network (num_frames={num_frames}) needs "
            f"[batch, {clip_length}, height, width, 3]: change num_frames or the clips"
        )
