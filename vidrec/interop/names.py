"""What PyTorch calls the parameters: `layer1.0.conv1.weight` is `layer1_0/conv1/kernel` here. Pure text, both ways."""

import re

# Modules whose names differ, below the block they stand in. STM: the first author's own class.
MODULES = {
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
    "cstm": "shift",
    "cmm/reduce": "mb.stage_conv",
    "cmm/reduce_bn": "mb.stage_bn",
    "cmm/motion": "mb.shift",
    "cmm/restore": "mb.conv1x1",
}
_MODULES_BACK = {torch: own for own, torch in MODULES.items()}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_LEAVES_BACK = {"bias": "bias", "running_mean": "mean", "running_var": "var"}

PREFIXES = ("module", "base_model", "model")  # of DataParallel, of TSN's and its descendants' wrapper, of others


def torch_name(path: str) -> str:
    """Returns the torch name of a parameter or statistic, e.g. of "layer1_0/downsample_bn/mean"."""
    *modules, leaf = path.split("/")
    block = []
    if modules and (match := re.fullmatch(r"(layer\d+)_(\d+)", modules[0])):
        block, modules = [*match.groups()], modules[1:]
    module = "/".join(modules)
    module = MODULES.get(module, module.replace("/", "."))
    return ".".join(filter(None, [*block, module, LEAVES.get(leaf, leaf)]))


def own_path(name: str) -> str:
    """Returns the path here of a torch name, as `clean_name` returns it: the inverse of `torch_name`."""
    *modules, leaf = name.split(".")
    block = []
    if len(modules) > 1 and re.fullmatch(r"layer\d+", modules[0]):
        block, modules = [f"{modules[0]}_{modules[1]}"], modules[2:]
    module = ".".join(modules)
    module = _MODULES_BACK.get(module, module.replace(".", "/"))
    is_norm = re.search(r"(^|[/_])bn\d*$", module)
    weight = {"weight": "scale" if is_norm else "kernel"}
    return "/".join(filter(None, [*block, module, (_LEAVES_BACK | weight).get(leaf, leaf)]))


def clean_name(key: str) -> str:
    """Returns a key without the wrappers public training code puts around torchvision's names.

    Prefixes `module.`, `base_model.`, `model.`; the `.net` of TSM's and TANet's wrapped layers; `new_fc` for `fc`.
    """
    parts = key.split(".")
    while parts[0] in PREFIXES and len(parts) > 1:
        parts = parts[1:]
    return ".".join("fc" if part == "new_fc" else part for part in parts if part != "net")
