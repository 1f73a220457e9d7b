"""Which values the fields of a configuration may have; which fields there are, and their types, says vidrec.config."""

import re
from typing import Any

from vidrec.errors import UsageError, did_you_mean

# Of train.class_weights: from the number of videos of each class. On the command line, the bare word will do.
BALANCED = ("balanced",)

_AT_LEAST_ONE = ("model.num_frames", "data.image_size", "data.threads", "train.batch_size", "train.log_every")
_AT_LEAST_ONE += ("train.checkpoint_every", "train.keep", "eval.batch_size", "eval.clips")
CHOICES: dict[str, tuple[Any, ...]] = {
    "data.sampling": ("segment", "dense", "even", "strided"),
    "data.short": ("first", "loop", "clamp"),
    "data.resize_draw": ("uniform", "inverse"),
    "data.crop": ("multiscale", "random", "center", "resized"),
    "data.flip": ("swap", "skip", "never"),
    "data.balance": ("none", "class"),
    "data.on_bad": ("replace", "raise"),
    "eval.sampling": ("test", "val", "twice", "random"),
    "eval.crops": (1, 3, 5, 10),
    "eval.average": ("softmax", "logits"),
}


def check(config: Any, where: str) -> None:
    """Raises UsageError if a field has a value out of its range, or two do not go together."""
    for name in _AT_LEAST_ONE:
        section, _, key = name.partition(".")
        if config[section][key] < 1:
            raise UsageError(f"{where}: config.{name} is {config[section][key]}, but must be at least 1")
    for name in CHOICES:
        section, _, key = name.partition(".")
        check_choice(name, config[section][key], f"{where}: config.")
    _check_numbers(config, where)
    _check_balance(config, where)
    _check_crops(config, where)
    if len(config.data.color_jitter) not in (0, 4) or len(config.data.resize) > 2:
        raise UsageError(f"{where}: data.color_jitter has 0 or 4 values, data.resize at most 2; see vidrec/config.py")


def check_choice(name: str, value: Any, prefix: str = "") -> None:
    """Raises UsageError if `value` is not one of those that the field "section.key" may have."""
    if value not in CHOICES[name]:
        hint = did_you_mean(str(value), map(str, CHOICES[name])) if isinstance(value, str) else ""
        raise UsageError(f"{prefix}{name} is {value!r}, but must be one of {CHOICES[name]}{hint}")


def _check_numbers(config: Any, where: str) -> None:
    data, optim, train = config.data, config.optim, config.train
    if optim.lr <= 0:
        raise UsageError(f"{where}: optim.lr is {optim.lr}, but must be more than 0")
    if train.steps < 0 or data.workers < 0:
        raise UsageError(f"{where}: train.steps={train.steps}, data.workers={data.workers}: both must be 0 or more")
    if len(data.mean) != 3 or len(data.std) != 3 or min(data.std) <= 0:
        raise UsageError(f"{where}: data.mean and data.std have a value for each of red, green, blue; std above 0")
    if not 0 <= train.label_smoothing < 1:
        raise UsageError(f"{where}: train.label_smoothing is {train.label_smoothing}, but must be in [0, 1)")
    if min(train.mixup, train.cutmix) < 0:
        raise UsageError(
            f"{where}: train.mixup and train.cutmix are 0 (off) or more, not {train.mixup}, {train.cutmix}"
        )
    for group in optim.groups:
        try:
            pattern, _, _ = group
            re.compile(pattern)
        except (TypeError, ValueError, re.error) as error:
            raise UsageError(
                f"{where}: optim.groups has {group!r}, but needs (pattern, lr multiplier, decay multiplier): {error}"
            ) from error


def _check_balance(config: Any, where: str) -> None:
    data, weights = config.data, config.train.class_weights
    folders = len(record_folders(config))
    if data.mixture and (len(data.mixture) != folders or folders == 1):
        raise UsageError(f"{where}: data.mixture has {len(data.mixture)} weights for {folders} folders in data.records")
    if not all(isinstance(weight, (int, float)) and weight > 0 for weight in data.mixture):
        raise UsageError(f"{where}: data.mixture is {data.mixture}, but must hold numbers above 0")
    if weights != BALANCED and not all(isinstance(factor, (int, float)) for factor in weights):
        raise UsageError(f"{where}: train.class_weights is {weights}, but must be {BALANCED} or a factor per class")
    if weights != BALANCED and any(factor <= 0 for factor in weights):
        raise UsageError(f"{where}: train.class_weights must all be more than 0; leave a class out of the records")
    if weights == BALANCED and data.balance == "class":
        raise UsageError(
            f"{where}: data.balance=class shows all classes equally often, so that train.class_weights=balanced would "
            "make rare ones count twice: choose one"
        )


def _check_crops(config: Any, where: str) -> None:
    data, views = config.data, config.eval
    if not (len(data.crop_area) == 2 and 0 < data.crop_area[0] <= data.crop_area[1] <= 1):
        raise UsageError(f"{where}: data.crop_area is {data.crop_area}, but must be (least, greatest) in (0, 1]")
    if not (len(data.crop_aspect) == 2 and 0 < data.crop_aspect[0] <= data.crop_aspect[1]):
        raise UsageError(f"{where}: data.crop_aspect is {data.crop_aspect}, but must be (least, greatest) above 0")
    if views.clips != {"twice": 2, "val": 1}.get(views.sampling, views.clips):
        raise UsageError(
            f"{where}: eval.sampling={views.sampling} has no {views.clips} clips: twice has 2, val has 1, and test and "
            "random have any number; set eval.clips"
        )


def record_folders(config: Any) -> list[str]:
    """The folders of `config.data.records`."""
    return [folder for part in config.data.records.split(",") if (folder := part.strip())]
