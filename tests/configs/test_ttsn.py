"""The recipes of TTSN and of TDN, its backbone."""

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from tests.configs.recipes import network, read, sweep
from vidrec.data.clips import ClipSpec
from vidrec.errors import UsageError
from vidrec.models.registry import clip_shape
from vidrec.train.optim import multipliers
from vidrec.train.tasks import make_task

TTSN, TDN = "configs/ttsn.py", "configs/tdn.py"
SECTIONS = sweep(TTSN)


def test_tables():
    assert next(iter(SECTIONS)) == "datasets"
    tables = {title: [network(read(TTSN, arg)) for arg in args] for title, args in SECTIONS.items()}
    assert [(m.ett, m.tss) for m in tables["Table VI: modules"]] == [
        (False, "none"), (True, "none"), (False, "rr"), (True, "rr")
    ]  # fmt: skip
    assert [m.tss for m in tables["Table VII: algorithms"]] == ["aa", "ra", "ar", "rr"]
    assert [m.backbone for m in tables["backbone"]] == ["tdn", "tsm", "tsn"]
    assert {-2, 8, 2048} <= {m.ett_ratio for m in tables["Figure 3: length of the tokens"]}
    assert {m.num_frames for m in tables["datasets"]} == {8, 16}


@pytest.mark.parametrize(
    ("data", "theta2", "lr", "batch", "epochs", "boundaries"),
    [
        ("hmdb51", 0.01, 1.5e-4, 4, 50.0, (25, 35)),
        ("ucf101", 0.1, 1.5e-4, 4, 50.0, (25, 35)),
        ("ssv1", 0.1, 1.3e-3, 8, 65.0, (30, 45, 55)),
    ],
)
def test_the_paper_s_recipe(data, theta2, lr, batch, epochs, boundaries):
    config = read(TTSN, data)
    assert (config.task.name, config.task.weight) == ("tss", theta2)
    assert (config.optim.lr, config.optim.boundaries, config.optim.factor) == (lr, boundaries, 0.1)
    assert (config.train.batch_size, config.train.epochs, config.model.bn) == (batch, epochs, f"group:{batch}")
    assert (config.optim.momentum, config.optim.weight_decay, config.optim.clip_norm) == (0.9, 5e-4, 20)
    assert (config.model.dropout, config.model.backbone, config.optim.nesterov) == (0.8, "tdn", False)
    spec = ClipSpec.from_config(config, 8, 40)
    assert (spec.crop, spec.resize, spec.image_size) == ("multiscale", (256,), 224)
    assert read(TTSN, f"{data},theta2=0.05").task.weight == 0.05
    assert read(TTSN, f"{data},tss=none").task.name == "supervised"


@pytest.mark.parametrize(
    ("data", "frames", "lr", "batch", "epochs", "boundaries", "decay"),
    [
        ("ssv1", 8, 0.01, 64, 60.0, (30, 45, 55), 5e-4),
        ("kinetics400", 16, 0.02, 128, 100.0, (50, 75, 90), 1e-4),
    ],
)
def test_the_recipe_of_tdn_s_authors(data, frames, lr, batch, epochs, boundaries, decay):
    assert f"{data},frames={frames}" in sweep(TDN)["datasets"]
    config = read(TDN, f"{data},frames={frames}")
    assert (config.optim.lr, config.optim.boundaries, config.optim.weight_decay) == (lr, boundaries, decay)
    assert (config.train.batch_size, config.train.epochs, config.model.dropout) == (batch, epochs, 0.5)
    model = network(config)
    assert (model.clip_length, model.bn) == (5 * frames, f"group:{batch // 8}")


def test_groups_of_parameters():
    config = read(TTSN, "hmdb51")
    model = network(config)
    clips = jax.ShapeDtypeStruct((1, *clip_shape(model, 64)), jnp.float32)
    params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False)["params"], clips)
    rate, decay = multipliers(config.optim.groups, config.optim.decay)
    found = {path: (rate(path, leaf), decay(path, leaf)) for path, leaf in flatten_dict(params, sep="/").items()}
    usual, biases, fixed = (1, 1), (2, 0), (1, 0)
    expected = {
        "conv1/kernel": usual, "conv1/bias": biases, "bn1/bias": fixed, "short_term/bn1/scale": fixed,
        "layer2_0/mse/full_bn/bias": fixed, "layer2_0/mse/motion/kernel": usual, "layer2_0/shift_conv/kernel": usual,
        "ett/pe": fixed, "ett/lam": fixed, "ett/h_0/kernel": usual, "ett/hinv/bias": biases, "fc/bias": biases,
        "order/fc_in/bias": biases, "layer2_0/downsample_bn/bias": fixed,
    }  # fmt: skip
    assert {path: found[path] for path in expected} == expected


@pytest.mark.parametrize(
    "arg", ["toy", "toy,tss=aa", "toy,ett=off", "toy,tss=none,u=4", "toy,embed=separate,head=clip"]
)
def test_toy(arg):
    config = read(TTSN, arg)
    model = network(config)
    assert (model.backbone, config.data.records) == ("tsn", "records/toy")
    make_task(model, config)
    assert network(read(TDN, "toy")).clip_length == 40


@pytest.mark.parametrize(
    ("path", "arg", "named"),
    [
        (TTSN, "hmdb52", "did you mean 'hmdb51'"),
        (TTSN, "hmdb51,tss=none,theta2=0.1", "theta2.*no effect"),
        (TTSN, "hmdb51,tss=rar", "tss=rar"),
        (TTSN, "toy,frames=16", "toy"),
        (TTSN, "toy,backbone=tsm", "toy"),
        (TDN, "toy,frames=16", "toy"),
        (TDN, "ssv3", "did you mean 'ssv1'"),
    ],
)
def test_wrong_arguments(path, arg, named):
    with pytest.raises(UsageError, match=named):
        read(path, arg)


def test_fields_without_effect_are_told_when_the_network_is_made():
    with pytest.raises(UsageError, match="ett_ratio has no effect"):
        network(read(TTSN, "hmdb51,ett=off,u=4"))
