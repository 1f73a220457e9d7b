"""Which values the fields of a configuration may have; which fields there are, and their types, says vidrec.config."""

import math
import re
from typing import Any, NamedTuple

from vidrec.errors import UsageError, did_you_mean

# Of train.class_weights: from the number of videos of each class. On the command line, the bare word will do.
BALANCED = ("balanced",)


class Range(NamedTuple):
    """What a number, or each of several, may be; `ends` are square where the limit itself is allowed.

    `greatest` may have a limit for each of several numbers. `lengths` is how many numbers there may be: None for a
    single one, () for one or more.
    """

    least: float = 0
    greatest: float | tuple[float, ...] = math.inf
    lengths: tuple[int, ...] | None = None
    ends: str = "[]"
    whole: bool = False
    ascending: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a field may have this value."""
        if self.lengths is None:
            return self._holds(value, self.greatest)
        if len(value) not in self.lengths if self.lengths else not value:
            return False
        limits = self.greatest if isinstance(self.greatest, tuple) else [self.greatest] * len(value)
        return all(map(self._holds, value, limits)) and (not self.ascending or list(value) == sorted(value))

    def __str__(self) -> str:
        first, last = self.ends
        limits = self.greatest if isinstance(self.greatest, tuple) else (self.greatest,)
        within = "in " + ", ".join(f"{first}{self.least}, {limit}{last}" for limit in limits)
        if self.greatest == math.inf:
            within = f"{'at least' if first == '[' else 'more than'} {self.least}"
        if self.lengths is None:
            return f"be {within}"
        count = " or ".join(map(str, self.lengths)) or "one or more"
        kind = f"{'ascending ' * self.ascending}{'whole ' * self.whole}numbers"
        if self.least == -math.inf:
            return f"hold {count} {kind}"
        return f"hold {count} {kind} {'of ' * (self.greatest == math.inf)}{within}"

    def _holds(self, number: Any, greatest: Any) -> bool:
        if not isinstance(number, int if self.whole else (int, float)) or isinstance(number, bool):
            return False
        above = number > self.least if self.ends[0] == "(" else number >= self.least
        return above and (number < greatest if self.ends[1] == ")" else number <= greatest)


_COUNT = Range(1)
RANGES = {
    "model.num_frames": _COUNT,
    "data.stride": _COUNT,
    "data.resize": Range(1, lengths=(0, 1, 2), whole=True),
    "data.resize_range": Range(1, lengths=(0, 2), whole=True, ascending=True),
    "data.crop_scales": Range(0, 1, lengths=(), ends="(]"),
    "data.crop_area": Range(0, 1, lengths=(2,), ends="(]", ascending=True),
    "data.crop_aspect": Range(0, lengths=(2,), ends="(]", ascending=True),
    "data.image_size": _COUNT,
    "data.color_jitter": Range(0, (1, 1, 1, 0.5), lengths=(0, 4)),
    "data.color_jitter_probability": Range(0, 1),
    "data.grayscale_probability": Range(0, 1),
    "data.mean": Range(-math.inf, lengths=(3,)),
    "data.std": Range(0, lengths=(3,), ends="(]"),
    "data.workers": Range(0),
    "data.threads": _COUNT,
    "data.max_bad": Range(0, 1),
    "optim.lr": Range(0, ends="(]"),
    "optim.trust": Range(0, ends="(]"),
    "train.batch_size": _COUNT,
    "train.accumulate": _COUNT,
    "train.ema": Range(0, 1, ends="[)"),
    "train.steps": Range(0),
    "train.label_smoothing": Range(0, 1, ends="[)"),
    "train.mixup": Range(0),
    "train.cutmix": Range(0),
    "train.log_every": _COUNT,
    "train.checkpoint_every": _COUNT,
    "train.keep": _COUNT,
    "train.watchdog": Range(0),
    "eval.batch_size": _COUNT,
    "eval.image_size": Range(1, lengths=(0, 2), whole=True),
    "eval.clips": _COUNT,
    "mesh.data": Range(-1),
    "mesh.fsdp": _COUNT,
    "mesh.model": _COUNT,
}
CHOICES: dict[str, tuple[Any, ...]] = {
    "data.sampling": ("segment", "dense", "even", "strided"),
    "data.short": ("first", "loop", "clamp"),
    "data.resize_draw": ("uniform", "inverse"),
    "data.crop": ("multiscale", "random", "center", "resized"),
    "data.flip": ("swap", "skip", "never"),
    "data.balance": ("none", "class"),
    "data.on_bad": ("replace", "raise"),
    "train.keep_best": ("", "top1", "top5", "mean_class"),
    "eval.sampling": ("test", "val", "twice", "random"),
    "eval.crops": (1, 3, 5, 10),
    "eval.average": ("softmax", "logits"),
}


def check(config: Any, where: str) -> None:
    """Raises UsageError if a field has a value out of its range, or two do not go together."""
    for name, allowed in RANGES.items():
        section, _, key = name.partition(".")
        if not allowed.allows(config[section][key]):
            raise UsageError(f"{where}: config.{name} is {config[section][key]!r}, but must {allowed}")
    for name in CHOICES:
        section, _, key = name.partition(".")
        check_choice(name, config[section][key], f"{where}: config.")
    _check_groups(config, where)
    _check_balance(config, where)
    _check_clips(config, where)


def check_choice(name: str, value: Any, prefix: str = "") -> None:
    """Raises UsageError if `value` is not one of those that the field "section.key" may have."""
    if value not in CHOICES[name]:
        hint = did_you_mean(str(value), map(str, CHOICES[name])) if isinstance(value, str) else ""
        raise UsageError(f"{prefix}{name} is {value!r}, but must be one of {CHOICES[name]}{hint}")


def _check_groups(config: Any, where: str) -> None:
    for group in config.optim.groups:
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


def _check_clips(config: Any, where: str) -> None:
    views = config.eval
    if views.clips != {"twice": 2, "val": 1}.get(views.sampling, views.clips):
        raise UsageError(
            f"{where}: eval.sampling={views.sampling} has no {views.clips} clips: twice has 2, val has 1, and test and "
            "random have any number; set eval.clips"
        )


def record_folders(config: Any) -> list[str]:
    """The folders of `config.data.records`."""
    return [folder for part in config.data.records.split(",") if (folder := part.strip())]
