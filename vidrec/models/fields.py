"""Checks of a network's fields: a wrong value is refused when the network is made, by name."""

import dataclasses
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import jax.numpy as jnp

from vidrec.errors import UsageError, VidrecError, did_you_mean

DTYPES = ("float32", "bfloat16", "float16")


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


def check_share(**values: float) -> None:
    """Raises UsageError naming the field unless each value is at least 0 and below 1."""
    for field, value in values.items():
        if not 0 <= value < 1:
            raise UsageError(f"{field}={value} must be at least 0 and below 1")


def check_positive(**values: float) -> None:
    """Raises UsageError naming the field unless each value is more than 0."""
    for field, value in values.items():
        if not value > 0:
            raise UsageError(f"{field}={value} must be more than 0")


def check_types(model: Any) -> None:
    """Raises UsageError naming the first field of a network whose value is not of the type that the field declares."""
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.name not in ("parent", "name", "dtype") and not is_a(value, field.type):
            raise UsageError(f"{field.name}={value!r} must be {in_words(field.type)}")


def is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of a type: bool, int, float, str, None, a sequence of one of them, or a union of such."""
    if get_origin(kind) in (Union, UnionType):
        return any(is_a(value, one) for one in get_args(kind))
    if get_origin(kind) is Sequence:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and all(is_a(item, *get_args(kind)) for item in value)
    return isinstance(value, TYPES[kind][0]) and (kind is bool or not isinstance(value, bool))


def in_words(kind: Any) -> str:
    """What a value of a type is called."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(in_words(one) for one in get_args(kind))
    if get_origin(kind) is Sequence:
        return f"a list, each item {in_words(*get_args(kind))}"
    return TYPES[kind][1]


TYPES: dict[Any, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a word"),
    NoneType: (NoneType, "None"),
}


def check_computation(dtype: Any, remat: str) -> None:
    """Raises UsageError unless every network can be computed in this type, with its blocks recomputed or not."""
    check_choice("remat", remat, ("none", "block"))
    check_choice("dtype", dtype if isinstance(dtype, str | None) else jnp.dtype(dtype).name, DTYPES)


def check_clips(shape: Sequence[int], num_frames: int, clip_length: int) -> None:
    """Raises VidrecError unless a `shape` of clips is `[B, clip_length, H, W, 3]`."""
    if len(shape) != 5 or shape[1] != clip_length or shape[-1] != 3 or 0 in shape:
        raise VidrecError(
            f"clips have shape {list(shape)}, but this network (num_frames={num_frames}) needs "
            f"[batch, {clip_length}, height, width, 3]: change num_frames or the clips"
        )
