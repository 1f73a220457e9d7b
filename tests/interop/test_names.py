import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from vidrec.interop.names import clean_name, rules_of, torch_name
from vidrec.models.registry import create_model

PAIRS = [
    ("conv1/kernel", "conv1.weight"),
    ("bn1/scale", "bn1.weight"),
    ("bn1/bias", "bn1.bias"),
    ("bn1/var", "bn1.running_var"),
    ("layer3_12/conv2/kernel", "layer3.12.conv2.weight"),
    ("layer2_0/downsample_conv/kernel", "layer2.0.downsample.0.weight"),
    ("layer2_0/downsample_bn/scale", "layer2.0.downsample.1.weight"),
    ("layer2_0/downsample_bn/mean", "layer2.0.downsample.1.running_mean"),
    ("layer1_0/cstm/kernel", "layer1.0.shift.weight"),
    ("layer1_0/cmm/motion/kernel", "layer1.0.mb.shift.weight"),
    ("layer1_0/cmm/reduce_bn/scale", "layer1.0.mb.stage_bn.weight"),
    ("cmm/restore/kernel", "mb.conv1x1.weight"),
    ("fc/kernel", "fc.weight"),
    ("kernel", "weight"),
]


@pytest.mark.parametrize(("path", "name"), PAIRS)
def test_names(path, name):
    assert torch_name(path) == name


@pytest.mark.parametrize(
    "fields", [("tsm_resnet101", {}), ("stm_resnet18", {"fusion": "concat"}), ("stm_resnet50", {})]
)
def test_every_parameter_has_a_name_of_its_own(fields):
    model = create_model(fields[0], num_classes=2, **fields[1])
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 64, 64, 3)), train=False))
    paths = [path for tree in variables.values() for path in flatten_dict(tree, sep="/")]
    assert len({torch_name(path, rules_of(model)) for path in paths}) == len(paths)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("module.base_model.layer1.0.conv1.net.weight", "layer1.0.conv1.weight"),
        ("module.base_model.layer1.0.net.conv1.weight", "layer1.0.conv1.weight"),
        ("base_model.conv1.weight", "conv1.weight"),
        ("model.fc.bias", "fc.bias"),
        ("module.new_fc.weight", "fc.weight"),
        ("module", "module"),
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
    ],
)
def test_wrappers_are_taken_off(key, name):
    assert clean_name(key) == name
