"""Every recipe loads, names a network that can be made, and says what the paper says."""

import jax
import pytest

from vidrec.config import load
from vidrec.data.clips import ClipSpec
from vidrec.models.registry import create_model, model_fields
from vidrec.train.optim import learning_rate, make_optimizer

ARGUMENTS = [
    *(
        f"configs/stm.py:{data},frames={t}"
        for data in ("ssv1", "ssv2", "kinetics400", "ucf101", "hmdb51")
        for t in (8, 16)
    ),
    *(f"configs/stm.py:ssv1,depth={depth}" for depth in (18, 34)),
    *(f"configs/stm.py:ssv1,modules={modules}" for modules in ("cstm", "cmm", "none")),
    *(f"configs/stm.py:ssv1,placement={placement}" for placement in ("first", "2", "3", "4", "5")),
    "configs/stm.py:ssv1,fusion=concat",
    "configs/stm.py:ssv1,cstm_conv=channelwise_2d,modules=cstm",
    "configs/stm.py:ssv1,cstm_conv=ordinary,modules=cstm",
    "configs/stm.py:ssv1,cmm_conv=ordinary,modules=cmm",
    "configs/stm.py:ssv1,degenerate",
    *(f"configs/demo.py:{network}" for network in ("tsn", "tsm", "stm")),
]


@pytest.mark.parametrize("spec", ARGUMENTS)
def test_a_recipe_can_be_run(spec):
    config = load(spec, model_fields=model_fields)
    fields = {key: value for key, value in config.model.items() if key != "name"}
    model = create_model(config.model.name, **{**fields, "num_classes": fields["num_classes"] or 8})
    size = config.data.image_size
    clips = jax.ShapeDtypeStruct((1, model.clip_length, size, size, 3), "float32")
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), clips)
    schedule = learning_rate(config.optim, total_steps=100, steps_per_epoch=10)
    jax.eval_shape(make_optimizer(config.optim, schedule).init, shapes["params"])
    assert ClipSpec.from_config(config.data, model.num_frames, model.clip_length).num_frames == config.model.num_frames
    if config.model.get("bn", "").startswith("group:"):
        assert config.train.batch_size % int(config.model.bn.removeprefix("group:")) == 0


def test_the_paper_s_schedule():
    config = load("configs/stm.py:ssv1", model_fields=model_fields)
    rate = learning_rate(config.optim, total_steps=70_000, steps_per_epoch=1000)
    rates = [float(rate(1000 * epoch)) for epoch in (0, 29, 30, 39, 40, 59, 60, 69)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert (config.train.epochs, config.optim.weight_decay, config.train.batch_size) == (70.0, 5e-4, 64)
    small = load("configs/stm.py:hmdb51,frames=16", model_fields=model_fields)
    assert (small.optim.lr, small.train.epochs, small.train.batch_size) == (1e-3, 50.0, 32)
