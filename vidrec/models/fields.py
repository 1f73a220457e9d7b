"""Checks of a network's fields: a wrong value is refused when the network is made, by name."""

from collections.abc import Iterable

from vidrec.errors import UsageError, did_you_mean


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
