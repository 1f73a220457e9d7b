"""Configuration: every field there is, checked names and types, `:arg` strings, overrides, fingerprint, differences.

A recipe is a Python file with `get_config(arg)`. It starts from `base()`, sets what differs, and is read by `load`:

    config = load("configs/stm.py:ssv1,frames=16", ["--config.optim.lr=0.02"])

A key that `base()` does not know, in the file or on the command line, is an error that names the nearest real one.
"""

import hashlib
import inspect
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FrozenConfigDict, config_flags

from vidrec import ranges, recipes
from vidrec.errors import UsageError, did_you_mean

logger = logging.getLogger(__name__)

# (pattern of the parameter path, learning-rate multiplier, weight-decay multiplier); the first match counts.
# Temporal-shift code bases train biases at twice the rate and norms and biases without decay.
TCM_GROUPS = ((r"bn\d*/|_bn/|norm/", 1.0, 0.0), (r"bias$", 2.0, 0.0))
# TSM also trains the new classifier five (its bias ten) times faster.
TSM_GROUPS = ((r"^fc/kernel$", 5.0, 1.0), (r"^fc/bias$", 10.0, 0.0), *TCM_GROUPS)

TRUST = 0.001  # of LARS, as published

FieldsOf = Callable[[str], Mapping[str, Any]]  # name of a network or task -> its fields and defaults

_KINDS = {"model": "network", "task": "task"}


def base() -> ConfigDict:
    """Every field with its default. `model` and `task` may also hold any field of the network and task they name."""
    c = ConfigDict()
    c.seed = 0

    c.model = ConfigDict()
    c.model.name = "tsn_resnet50"  # a name of vidrec.list_models(), or "package.module:function"
    c.model.num_classes = 0  # 0: as many as the records have
    c.model.num_frames = 8  # T, frames of a clip

    c.task = ConfigDict()
    c.task.name = "supervised"  # supervised | tss | order | twins, or "package.module:function"; see vidrec.train.tasks

    c.data = ConfigDict()
    c.data.records = ""  # folder written by `vidrec convert`; several, separated by commas, are joined
    c.data.mixture = ()  # of several folders: a weight each, exact shares of the clips drawn; (): as many as they have
    c.data.balance = "none"  # none (each video once an epoch) | class (every K clips show each of the K classes)
    c.data.train_split = "train"
    c.data.eval_split = "val"
    c.data.sampling = "segment"  # segment (one frame of each of T equal parts) | dense (64-frame span) | even | strided
    c.data.stride = 32  # frames between neighbours, for strided
    c.data.short = "first"  # a video with fewer frames than T: first (repeat frame 0) | loop | clamp
    c.data.resize = (256,)  # before cropping: () as stored | (short side,) | (height, width)
    c.data.resize_range = ()  # (shortest, longest): in training, a short side drawn per clip instead of `resize`
    c.data.resize_draw = "uniform"  # of resize_range: uniform | inverse (1/side uniform)
    c.data.crop = "multiscale"  # in training: multiscale (corners and centre, 13 offsets) | random | center | resized
    c.data.crop_scales = (1.0, 0.875, 0.75, 0.66)  # of multiscale: shares of the short side
    c.data.crop_area = (0.08, 1.0)  # of resized, the random-resized crop: shares of the frame's area
    c.data.crop_aspect = (3 / 4, 4 / 3)  # of resized: width / height
    c.data.image_size = 224  # side of the square picture the network sees
    c.data.flip = "never"  # swap (mirror pairs exchange labels) | skip (mirror pairs are not flipped) | never
    c.data.color_jitter = ()  # (brightness, contrast, saturation, hue), per clip, on the device
    c.data.color_jitter_probability = 0.8
    c.data.grayscale_probability = 0.0
    c.data.mean = (0.485, 0.456, 0.406)  # RGB in 0..1
    c.data.std = (0.229, 0.224, 0.225)
    c.data.workers = 0  # loader processes; 0: threads of this process
    c.data.threads = 2  # reading threads per process
    c.data.on_bad = "replace"  # a record that cannot be read in training: replace (the next readable one) | raise
    c.data.max_bad = 0.001  # share of a split's records that may be replaced; the first one always may

    c.optim = ConfigDict()
    c.optim.name = "sgd"  # sgd | adamw | nadamw | lars
    c.optim.lr = 0.01  # for the whole global batch; not rescaled
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.b2 = 0.999
    c.optim.trust = TRUST  # of lars: how far a step moves an array of weights, beside its norm, per unit of lr
    c.optim.weight_decay = 5e-4
    c.optim.decay = "all"  # all parameters | kernels (arrays of two and more dimensions)
    c.optim.schedule = "step"  # step (by epoch) | cosine (to `final` times lr) | constant
    c.optim.boundaries = ()  # epochs at which lr is multiplied by `factor`
    c.optim.factor = 0.1
    c.optim.final = 0.01
    c.optim.warmup_steps = 0  # linear from 0
    c.optim.clip_norm = 20.0  # of the gradient over all parameters; 0: off
    c.optim.groups = ()  # ((pattern, lr multiplier, decay multiplier), ...), first match; see TSM_GROUPS

    c.train = ConfigDict()
    c.train.batch_size = 64  # clips of the global batch
    # Parts that a step takes the batch in, to need memory for one part only. The result is that of the whole batch with
    # bn=group:<clips>; bn=global normalises each part by its own statistics, and draws are made for each.
    c.train.accumulate = 1
    c.train.ema = 0.0  # decay of a moving average of the weights, which is evaluated and saved as the network's; 0: off
    c.train.epochs = 50.0
    c.train.steps = 0  # if positive, instead of epochs
    c.train.label_smoothing = 0.0
    # (): none; one factor per class; ("balanced",): the inverse of how often its label is drawn, 1 on average
    c.train.class_weights = ()
    # Alphas of Beta(alpha, alpha); 0: off. Neighbours in the batch are mixed, by one draw per step; with both, one of
    # the two is drawn per step.
    c.train.mixup = 0.0
    c.train.cutmix = 0.0
    c.train.init = ""  # run or imported weights to start from; the classifier only if the classes are the same
    c.train.log_every = 10  # steps between progress lines
    c.train.eval_every = 0  # steps; 0: at each epoch's end
    c.train.checkpoint_every = 500  # steps
    c.train.keep = 3  # newest checkpoints kept; the last step of the run always is
    c.train.keep_best = ""  # top1 | top5 | mean_class: beside them, the one whose evaluation was best by it; "": none
    # Seconds without progress after which a process of the run says where it hangs and ends; 0: never. At least as long
    # as `log_every` steps, or a checkpoint's way to storage, may take; compiling does not count.
    c.train.watchdog = 1800.0

    c.eval = ConfigDict()
    c.eval.batch_size = 64
    c.eval.image_size = ()  # (height, width) of evaluation pictures; (): data.image_size both ways
    # Views of each video that `vidrec eval` averages; evaluations within training see one clip and its centre.
    c.eval.clips = 1
    # test (one clip: the segments' centres; more: random; dense and strided clips start at even distances) | val (the
    # centres, but only frame 0 of a video of at most T) | twice (two clips: centres and starts of the segments) |
    # random (draws seeded by video and clip)
    c.eval.sampling = "test"
    c.eval.crops = 1  # 1: centre | 3: along the long side | 5: corners and centre | 10: those five, mirrored as well
    c.eval.full_resolution = False  # crops as large as data.resize says, not data.image_size (convolutional networks)
    c.eval.average = "softmax"  # of the views: softmax (of their scores) | logits (softmax of the mean)

    c.mesh = ConfigDict()
    # Devices: data x fsdp x model. A batch is split over data and fsdp, parameters and optimizer state over fsdp.
    c.mesh.data = -1  # -1: as many as there are for fsdp and model
    c.mesh.fsdp = 1
    c.mesh.model = 1  # heads and hidden units of a transformer are split over it
    return c


def load(
    spec: str,
    overrides: Sequence[str] = (),
    *,
    model_fields: FieldsOf | None = None,
    task_fields: FieldsOf | None = None,
) -> FrozenConfigDict:
    """Reads `path[:arg]`, applies `--config.a.b=value` overrides and checks every name and type.

    Args:
      spec: recipe file, with the string handed to its `get_config` behind a colon.
      overrides: command-line strings.
      model_fields: name of a network -> its fields and defaults; when given, `config.model` is completed with
        them and checked against them.
      task_fields: the same for `config.task`.

    Raises:
      UsageError: unreadable file, failing `get_config`, unknown key or argument, wrong type; one sentence.
    """
    path, _, arg = spec.partition(":")
    config = _run_get_config(path, arg)
    return completed(config, overrides, where=path, model_fields=model_fields, task_fields=task_fields)


def completed(
    config: ConfigDict,
    overrides: Sequence[str] = (),
    *,
    where: str = "config",
    model_fields: FieldsOf | None = None,
    task_fields: FieldsOf | None = None,
) -> FrozenConfigDict:
    """What `load` makes of a recipe's `config`, which `where` names in errors; that itself stays as it is."""
    config = config.copy_and_resolve_references()
    check(config, where)  # before overrides: a slip in the file is reported as the file's
    named = {"model": model_fields, "task": task_fields}
    for section, fields_of in named.items():
        if fields_of:
            _complete(section, config[section], where, fields_of, overrides)
    _override(config, overrides)
    check(config, where, model_fields=model_fields, task_fields=task_fields)
    return FrozenConfigDict(config)


def sweep(path: str) -> dict[str, list[str]]:
    """Title of a table -> the arguments of its rows, as a recipe's `sweep()` lists them.

    Raises:
      UsageError: the recipe has none; as of `load` for a file that cannot be run.
    """
    tables = recipes.call(path, "sweep")
    if not isinstance(tables, dict) or not all(isinstance(arg, str) for rows in tables.values() for arg in rows):
        raise UsageError(f"{path}: sweep must return the arguments of rows by title of a table, as configs/stm.py does")
    return tables


def check(
    config: Any, where: str, *, model_fields: FieldsOf | None = None, task_fields: FieldsOf | None = None
) -> None:
    """Raises UsageError if `config` holds a key that is not in `base()` or a value of another type."""
    _check_section(config, base(), where, "")
    ranges.check(config, where)
    if model_fields:
        _check_named("model", config.model, model_fields, where)
    if task_fields:
        _check_named("task", config.task, task_fields, where)


def parse_arg(arg: str | None, **known: Any) -> ConfigDict:
    """Parses the string behind the colon of a recipe: "ssv1,frames=16".

    A keyword whose default is a tuple of strings is a choice (the first is the default); a bare word picks from the
    choice that has it. Other values take the type of their default; a bare name of a boolean sets it.

    Raises:
      UsageError: a word or value that is not known, naming the nearest known one; an argument given twice.
    """
    choices = {key: value for key, value in known.items() if isinstance(value, tuple)}
    parsed = {key: value[0] if isinstance(value, tuple) else value for key, value in known.items()}
    given = set()
    for part in filter(None, (arg or "").split(",")):
        key, equals, text = part.partition("=")
        if not equals:
            key, text = _bare_word(part, known, choices)
        if key not in known:
            raise UsageError(f"unknown config argument {key!r}{did_you_mean(key, known)}")
        if key in given:
            raise UsageError(f"config argument {key} is given twice, as {parsed[key]} and as {text}: choose one")
        given.add(key)
        parsed[key] = _parse_value(key, text, known[key])
    return ConfigDict(parsed)


def fingerprint(config: Any) -> str:
    """Twelve hexadecimal digits that change when any field does."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:12]


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dictionaries with lists for tuples, ready for JSON."""
    return json.loads(config.to_json())


def from_dict(
    values: Mapping[str, Any], *, model_fields: FieldsOf | None = None, task_fields: FieldsOf | None = None
) -> FrozenConfigDict:
    """The inverse of `to_dict`; fields that a newer version added take their defaults.

    Those of the network and of the task do so if `model_fields` and `task_fields` are given.
    """
    config = base()
    for section, fields in values.items():
        if isinstance(fields, Mapping):
            if section not in config:
                config[section] = ConfigDict()
            for key, value in fields.items():
                config[section][key] = _tuples(value)
        else:
            config[section] = fields
    for section, fields_of in {"model": model_fields, "task": task_fields}.items():
        if fields_of:
            _take_defaults(config[section], fields_of(config[section].name))
    return FrozenConfigDict(config)


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line "a.b: old -> new" for each field in which two configurations (as from `to_dict`) differ."""
    lines = []
    for key in sorted({*a, *b}):
        old, new = a.get(key, "(absent)"), b.get(key, "(absent)")
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {old} -> {new}")
    return lines


def _run_get_config(path: str, arg: str) -> ConfigDict:
    config = recipes.call(path, "get_config", arg or None)
    if not isinstance(config, ConfigDict):
        raise UsageError(f"{path}: get_config must return a ConfigDict, not {type(config).__name__}; start from base()")
    return config


def _check_section(config: Any, known: ConfigDict, where: str, prefix: str) -> None:
    for key in config:
        if key not in known:
            if prefix in ("model.", "task."):
                continue  # fields of the network or task it names, checked against that
            raise UsageError(f"{where}: unknown config key '{prefix}{key}'{did_you_mean(key, known.keys())}")
        value, default = config[key], known[key]
        if isinstance(default, ConfigDict):
            if not isinstance(value, (ConfigDict, FrozenConfigDict)):
                raise UsageError(f"{where}: config.{prefix}{key} is a section of fields, not {value!r}")
            _check_section(value, default, where, f"{prefix}{key}.")
        else:
            _check_type(value, default, f"{prefix}{key}", where)
    missing = [key for key in known if key not in config]
    if missing:
        raise UsageError(f"{where}: config key '{prefix}{missing[0]}' is missing; start from vidrec.config.base()")


def _check_type(value: Any, default: Any, name: str, where: str) -> None:
    accepted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, accepted) or (isinstance(value, bool) and not isinstance(default, bool)):
        kind = type(default).__name__
        raise UsageError(f"{where}: config.{name} is {value!r}, but must be of type {kind}, like {default!r}")
    if not _is_finite(value):
        raise UsageError(f"{where}: config.{name} is {value!r}, but must be finite")


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _complete(section: str, config: ConfigDict, where: str, fields_of: FieldsOf, overrides: Sequence[str]) -> None:
    """Writes the own defaults of what is named into its section, so that each can be overridden and is recorded."""
    flag = f"--config.{section}.name="
    name = next((o.partition("=")[2] for o in overrides if o.startswith(flag)), config.name)
    fields = fields_of(name)
    if name != config.name:  # what the recipe says of its own network does not stand in the way of another
        dropped = [key for key in config if key not in (*fields, "name", "num_classes")]
        for key in dropped:
            del config[key]
        if dropped:
            logger.warning("%s has no %s: these fields of the recipe are left out", name, ", ".join(dropped))
        config.name = name
    _check_named(section, config, fields_of, where)
    _take_defaults(config, fields)


def _take_defaults(config: ConfigDict, fields: Mapping[str, Any]) -> None:
    for key, value in fields.items():
        if key not in config and value is not inspect.Parameter.empty:
            config[key] = value


def _check_named(section: str, config: Any, fields_of: FieldsOf, where: str) -> None:
    fields = fields_of(config.name)
    for key, value in config.items():
        if key in ("name", "num_classes"):
            continue
        if key not in fields:
            hint = did_you_mean(key, fields)
            raise UsageError(f"{where}: {_KINDS[section]} {config.name!r} has no field '{section}.{key}'{hint}")
        if fields[key] not in (None, inspect.Parameter.empty) and value is not None:
            _check_type(value, fields[key], f"{section}.{key}", where)


def _override(config: ConfigDict, overrides: Sequence[str]) -> None:
    for override in overrides:
        keys = override.removeprefix("--config.").partition("=")[0].split(".")
        section = config
        for depth, key in enumerate(keys):
            if not isinstance(section, ConfigDict) or key not in section:
                known = section.keys() if isinstance(section, ConfigDict) else ()
                raise UsageError(f"unknown config key '{'.'.join(keys[: depth + 1])}'{did_you_mean(key, known)}")
            section = section[key]
        if isinstance(section, ConfigDict):
            known = ", ".join(section.keys())
            raise UsageError(f"config.{'.'.join(keys)} is a section; set one of its fields: {known}")
        values, argv = flags.FlagValues(), ["vidrec", override]
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        try:
            values(argv)
        except flags.Error as error:
            raise UsageError(f"{override}: must be of type {type(section).__name__}, like {section!r}") from error


def _bare_word(word: str, known: Mapping[str, Any], choices: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    if known.get(word) is False:
        return word, "true"
    for key, options in choices.items():
        if word in options:
            return key, word
    words = [option for options in choices.values() for option in options]
    raise UsageError(f"unknown config argument {word!r}{did_you_mean(word, [*words, *known])}")


def _parse_value(key: str, text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        if text not in default:
            raise UsageError(f"config argument {key}={text}: no such choice{did_you_mean(text, default)}")
        return text
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise UsageError(f"config argument {key}={text}: say true or false")
        return text.lower() in ("true", "1")
    try:
        return type(default)(text)
    except ValueError as error:
        raise UsageError(f"config argument {key}={text}: not a {type(default).__name__}") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
