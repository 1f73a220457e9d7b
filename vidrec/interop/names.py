"""What PyTorch calls the parameters: `layer1_0/conv1/kernel` here is `layer1.0.conv1.weight`. Pure text."""

import re
from typing import Any

Rules = tuple[tuple[str, str], ...]  # (regular expression on a path here, replacement); all that match apply, in order

# Of every network: blocks, then modules whose names differ. STM's are those of the first author's own class,
# TE's those of the TAM that it restates, in TANet's code; mSE's are TDN's; convs, bns and shifts TEA's (Res2Net's).
COMMON: Rules = (
    (r"^(layer\d+|blocks)_(\d+)/", r"\1/\2/"),
    (r"^patch_embed/(\w+_(token|embed))$", r"\1"),
    (r"downsample_conv(?=/)", "downsample/0"),
    (r"downsample_bn(?=/)", "downsample/1"),
    (r"(^|/)cstm/", r"\1shift/"),
    (r"(^|/)cmm/reduce/", r"\1mb/stage_conv/"),
    (r"(^|/)cmm/reduce_bn/", r"\1mb/stage_bn/"),
    (r"(^|/)cmm/motion/", r"\1mb/shift/"),
    (r"(^|/)cmm/restore/", r"\1mb/conv1x1/"),
    (r"(^|/)te/short_in/", r"\1tam/L/0/"),
    (r"(^|/)te/short_bn/", r"\1tam/L/1/"),
    (r"(^|/)te/short_out/", r"\1tam/L/3/"),
    (r"(^|/)te/long_in/", r"\1tam/G/0/"),
    (r"(^|/)te/long_bn/", r"\1tam/G/1/"),
    (r"(^|/)te/long_out/", r"\1tam/G/3/"),
    (r"(^|/)tcm3/", r"\1tcm_layer/"),
    (r"(^|/)mtdm/reduce/", r"\1mtdm/chnl_reduction/0/"),
    (r"(^|/)mtdm/reduce_bn/", r"\1mtdm/chnl_reduction/1/"),
    (r"(^|/)tam/conv(\d)_(\d+)(_bn)?/", r"\1tam/conv\2/\3/"),
    (r"(^|/)eta/", r"\1ETA/conv/"),
    (r"(^|/)convs_(\d)/", r"\1convs/\2/"),
    (r"(^|/)convs_(\d)_bn/", r"\1bns/\2/"),
    (r"(^|/)shifts_(\d)/", r"\1shifts/\2/conv/"),
    (r"(^|/)shift_conv/", r"\1shift/conv/"),
    (r"(^|/)mse/reduce/", r"\1mse/conv1/"),
    (r"(^|/)mse/reduce_bn/", r"\1mse/bn1/"),
    (r"(^|/)mse/motion/", r"\1mse/conv2/"),
    (r"(^|/)mse/restore/", r"\1mse/conv3/"),
    (r"(^|/)mse/restore_bn/", r"\1mse/bn3/"),
    (r"(^|/)mse/half/", r"\1mse/conv3_smallscale2/"),
    (r"(^|/)mse/half_bn/", r"\1mse/bn3_smallscale2/"),
    (r"(^|/)mse/full/", r"\1mse/conv3_smallscale4/"),
    (r"(^|/)mse/full_bn/", r"\1mse/bn3_smallscale4/"),
    (r"(^|/)h_(\d)/", r"\1h/\2/"),
)
# Of the networks of one class (and its descendants), before the common ones.
SPECIAL: dict[str, Rules] = {
    "TDN": (
        (r"^short_term/conv1/", "conv1_5/0/"),
        (r"^short_term/bn1/", "conv1_5/1/"),
        (r"^short_term/layer1_(\d+)/", r"resnext_layer1/\1/"),
        (r"^layer(\d+)_(\d+)/", r"layer\1_bak/\2/"),
    ),
    "TTSN": (  # the order head of the same group's later code
        (r"^order/fc_in/", "fc_shuffle_rbrc/"),
        (r"^order/fc(\d)/", r"fc_rbrc\1/"),
        (r"^order/fc_out/", "fc_rbrc4/"),
    ),
}

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
# Of DataParallel, of torch.compile, of TSN's and its descendants' wrapper, of others.
PREFIXES = ("module", "_orig_mod", "base_model", "model")


def rules_of(model: Any) -> Rules:
    """Returns the rules for the parameters of a network."""
    special = (SPECIAL.get(cls.__name__, ()) for cls in type(model).__mro__)
    return (*(rule for rules in special for rule in rules), *COMMON)


def torch_name(path: str, rules: Rules = COMMON) -> str:
    """Returns the torch name of a parameter or statistic, e.g. of "layer1_0/downsample_bn/mean"."""
    for pattern, replacement in rules:
        path = re.sub(pattern, replacement, path)
    *modules, leaf = path.split("/")
    return ".".join([*modules, LEAVES.get(leaf, leaf)])


def clean_name(key: str) -> str:
    """Returns a key without the wrappers public training code puts around torchvision's names.

    Prefixes `module.`, `_orig_mod.`, `base_model.`, `model.`; the `.net` of TSM's and TANet's wrapped layers; `new_fc`
    for `fc`.
    """
    parts = key.split(".")
    while parts[0] in PREFIXES and len(parts) > 1:
        parts = parts[1:]
    return ".".join("fc" if part == "new_fc" else part for part in parts if part != "net")
