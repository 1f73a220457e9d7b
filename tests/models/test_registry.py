import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from vidrec.errors import UsageError, VidrecError
from vidrec.models.registry import REQUIRED, clip_shape, create_model, list_models, model_fields
from vidrec.models.stm import STM


def my_network(num_classes: int, num_frames: int = 4, depth: int = 2) -> nn.Module:
    return STM(num_classes=num_classes, num_frames=num_frames, stage_sizes=(depth,) * 4)


def any_network(num_classes: int, **fields) -> nn.Module:
    return STM(num_classes=num_classes, **fields)


def test_names():
    names = list_models()
    assert names == sorted(names)
    assert {"tsn_resnet18", "tsm_resnet101", "stm_resnet34"} <= set(names)
    assert "stm_resnet101" not in names
    assert set(list_models("*_resnet50")) >= {"tsn_resnet50", "tsm_resnet50", "stm_resnet50"}
    assert list_models("nothing*") == []


def test_fields_and_their_defaults():
    fields = model_fields("stm_resnet34")
    assert fields["num_classes"] is REQUIRED
    assert fields["stage_sizes"] == (3, 4, 6, 3)
    assert fields["bottleneck"] is False
    assert fields["placement"] == "all"
    assert not {"name", "parent"} & fields.keys()
    for name in list_models():  # the defaults alone make a network
        create_model(name, **{**model_fields(name), "num_classes": 2})


def test_fields_override_the_defaults_and_lists_are_accepted():
    model = create_model("tsm_resnet50", num_classes=3, widths=[8, 8, 8, 8], num_frames=16)
    assert model.widths == (8, 8, 8, 8)
    assert model == create_model("tsm_resnet50", num_classes=3, widths=(8, 8, 8, 8), num_frames=16)
    assert clip_shape(model, 224) == (16, 224, 224, 3)
    assert clip_shape(model, (224, 256)) == (16, 224, 256, 3)


def test_slips_are_named():
    with pytest.raises(UsageError, match="did you mean 'stm_resnet50'"):
        create_model("stm_resnet5", num_classes=2)
    with pytest.raises(UsageError, match="did you mean 'reduction'"):
        create_model("stm_resnet50", num_classes=2, reducton=8)
    with pytest.raises(UsageError, match=r"tsn_resnet50.*num_classes"):
        create_model("tsn_resnet50")


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("tsn_resnet50", {"num_classes": "3"}, "num_classes='3' must be a whole number"),
        ("tsn_resnet50", {"num_classes": 2.5}, "num_classes=2.5 must be a whole number"),
        ("tsn_resnet50", {"num_classes": True}, "num_classes=True must be a whole number"),
        ("tsn_resnet50", {"dropout": None}, "dropout=None must be a number"),
        ("tsn_resnet50", {"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ("tsn_resnet50", {"widths": None}, "widths=None must be a list, each item a whole number"),
        ("tsn_resnet50", {"stage_sizes": (1, 1, 1, 1.5)}, r"stage_sizes=\(1, 1, 1, 1.5\) must be a list"),
        ("tsn_resnet50", {"dtype": None}, "dtype=None is not one of the known values"),
        ("tsn_resnet50", {"dtype": jnp.int32}, "dtype='int32' is not one of the known values"),
        ("stm_resnet50", {"degenerate": "yes"}, "degenerate='yes' must be true or false"),
        ("stm_resnet50", {"placement": 2.0}, "placement=2.0 must be a word or a whole number"),
        ("tefe_resnet50", {"te": "1-0-1-0"}, "te='1-0-1-0' must be a list"),
        ("tcm_resnet50", {"tcm_patch": 3.0}, "tcm_patch=3.0 must be a whole number or None"),
        ("ttsn_resnet50", {"ett": "no"}, "ett='no' must be true or false"),
        ("direcformer_base", {"heads": 2.0}, "heads=2.0 must be a whole number"),
        ("direcformer_base", {"mlp_ratio": 0}, "mlp_ratio=0 must be more than 0"),
    ],
)
def test_values_of_a_wrong_kind_are_named(name, fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        create_model(name, **{"num_classes": 2, **fields})


@pytest.mark.parametrize("name", ["tsn_resnet18", "direcformer_base"])
def test_pictures_without_a_pixel_are_refused(name):
    model = create_model(name, num_classes=2)
    with pytest.raises(VidrecError, match=r"clips have shape \[1, 8, 0, 32, 3\]"):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, 8, 0, 32, 3)))


def test_networks_of_the_user():
    here = f"{my_network.__module__}"
    assert create_model(f"{here}:my_network", num_classes=2, depth=1).stage_sizes == (1, 1, 1, 1)
    assert model_fields(f"{here}:my_network") == {"num_classes": REQUIRED, "num_frames": 4, "depth": 2}
    assert create_model(f"{here}:any_network", num_classes=2, reduction=8).reduction == 8
    with pytest.raises(UsageError, match="did you mean 'depth'"):
        create_model(f"{here}:my_network", num_classes=2, dept=1)
    for slip in (f"{here}:no_network", "no_package_here:f", f"{here}:__name__", f"{here}:"):
        with pytest.raises(UsageError, match=slip.replace(".", r"\.")):
            create_model(slip, num_classes=2)
