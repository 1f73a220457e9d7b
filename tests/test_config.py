"""Recipes: every slip is told by name, every field can be overridden, configurations can be compared."""

import pytest
from ml_collections import ConfigDict

from vidrec import config as configuration
from vidrec.config import base, differences, fingerprint, from_dict, load, parse_arg, to_dict
from vidrec.errors import UsageError
from vidrec.ranges import record_folders


def fields(name):
    return {"num_classes": 0, "num_frames": 8, "modules": "both", "dropout": 0.5, "widths": (64, 128)}


@pytest.fixture
def recipe(tmp_path):
    def write(*lines):
        body = "".join(f"    {line}\n" for line in lines)
        path = tmp_path / "recipe.py"
        path.write_text(
            "from ml_collections import ConfigDict\nfrom vidrec.config import base, parse_arg\n"
            f"def get_config(arg=None):\n    c = base()\n{body}    return c\n"
        )
        return str(path)

    return write


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("c.optim.lrr = 1.0", "'optim.lrr' (did you mean 'lr'?)"),
        ("c.optm.lr = 1.0", 'Did you mean "optim"'),
        ("c.trian = ConfigDict()", "'trian' (did you mean 'train'?)"),
        ("c.model.modles = 'both'", "'model.modles' (did you mean 'modules'?)"),
        ("c.optim.lr = 'fast'", "line 5"),
        ("c.optim = ConfigDict({'lr': 1.0})", "'optim.b2' is missing"),
        ("undefined_name", "line 5: NameError"),
        ("return 3", "must return a ConfigDict"),
    ],
)
def test_slips_in_the_file(recipe, line, told):
    with pytest.raises(UsageError) as error:
        load(recipe(line), model_fields=fields)
    assert told in str(error.value)
    assert "recipe.py" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("--config.optim.lrr=1", "'optim.lrr' (did you mean 'lr'?)"),
        ("--config.optm.lr=1", "'optm' (did you mean 'optim'?)"),
        ("--config.optim=1", "is a section"),
        ("--config.optim.lr=fast", "--config.optim.lr=fast: must be of type float, like "),
        ("--config.train.steps=1e3", "--config.train.steps=1e3: must be of type int, like "),
        ("--config.optim.nesterov=maybe", "--config.optim.nesterov=maybe: must be of type bool, like "),
        ("--config.train.log_every=0", "train.log_every is 0, but must be at least 1"),
        (
            "--config.data.color_jitter=(1.0,)",
            "data.color_jitter is (1.0,), but must hold 0 or 4 numbers in [0, 1], [0, 1], [0, 1], [0, 0.5]",
        ),
        ("--config.model.width=(1,2)", "'model.width' (did you mean 'widths'?)"),
        ("--config.optim.clip_norm=nan", "optim.clip_norm is nan"),
        ("--config.data.mean=(0.5,0.5,1e999)", "must be finite"),
        ("--config.eval.average=scores", "eval.average is 'scores', but must be one of ('softmax', 'logits')"),
        ("--config.optim.lr=-0.1", "optim.lr is -0.1, but must be more than 0"),
        ("--config.optim.groups=(('[',1.0,1.0),)", "optim.groups has ('[', 1.0, 1.0), but needs (pattern, lr"),
        ("--config.optim.groups=(('fc',1.0),)", "optim.groups has ('fc', 1.0), but needs (pattern, lr"),
        ("--config.data.mean=(0.5,0.5)", "data.mean is (0.5, 0.5), but must hold 3 numbers"),
        ("--config.data.std=(0.0,1.0,1.0)", "data.std is (0.0, 1.0, 1.0), but must hold 3 numbers of more than 0"),
        ("--config.train.steps=-4", "train.steps is -4, but must be at least 0"),
        ("--config.train.label_smoothing=1.0", "train.label_smoothing is 1.0, but must be in [0, 1)"),
        ("--config.train.class_weights=(1.0,0.0)", "train.class_weights must all be more than 0"),
        ("--config.train.class_weights=balance", "must be ('balanced',) or a factor per class"),
        ("--config.train.mixup=-0.1", "train.mixup is -0.1, but must be at least 0"),
        ("--config.data.balance=clas", "data.balance is 'clas', but must be one of ('none', 'class') (did you mean"),
        ("--config.data.mixture=3,1", "data.mixture has 2 weights for 0 folders"),
        ("--config.data.crop=resize", "(did you mean 'resized'?)"),
        ("--config.data.crop_area=(0.0,1.0)", "data.crop_area is (0.0, 1.0)"),
        ("--config.data.crop_aspect=(2.0,1.0)", "data.crop_aspect is (2.0, 1.0)"),
        ("--config.eval.sampling=twise", "(did you mean 'twice'?)"),
        ("--config.eval.sampling=twice", "eval.sampling=twice has no 1 clips: twice has 2"),
        ("--config.eval.crops=2", "eval.crops is 2, but must be one of (1, 3, 5, 10)"),
    ],
)
def test_slips_on_the_command_line(recipe, override, told):
    with pytest.raises(UsageError) as error:
        load(recipe(), [override], model_fields=fields)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("field", "values", "allowed"),
    [
        ("data.grayscale_probability", ["7", "-0.1"], "be in [0, 1]"),
        ("data.color_jitter_probability", ["-1", "1.1"], "be in [0, 1]"),
        (
            "data.color_jitter",
            ["(-1,2,0,9)", "(0,0,0,0.6)", "(0,0,1.1,0)", "('a',0,0,0)"],
            "hold 0 or 4 numbers in [0, 1], ",
        ),
        ("data.stride", ["-3", "0"], "be at least 1"),
        ("data.resize", ["(0,)", "(-5,)", "(8,8,8)", "(8.5,)"], "hold 0 or 1 or 2 whole numbers of at least 1"),
        ("data.resize_range", ["(50,40)", "(0,4)", "(4,)"], "hold 0 or 2 ascending whole numbers of at least 1"),
        ("data.crop_scales", ["()", "(0.0,)", "(2.0,)", "('a',)", "(True,)"], "hold one or more numbers in (0, 1]"),
        ("data.crop_area", ["(0.5,)", "(0.5,1.5)", "(0.5,0.4)"], "hold 2 ascending numbers in (0, 1]"),
        ("data.crop_aspect", ["('a','b')", "(0,1)", "(2,1)"], "hold 2 ascending numbers of more than 0"),
        ("data.max_bad", ["-1", "5"], "be in [0, 1]"),
        ("eval.image_size", ["(0,0)", "(8,)"], "hold 0 or 2 whole numbers of at least 1"),
    ],
)
def test_values_out_of_range_are_told_when_the_recipe_is_read(recipe, field, values, allowed):
    path = recipe()
    for value in values:
        with pytest.raises(UsageError) as error:
            load(path, [f"--config.{field}={value}"])
        assert f"config.{field} is " in str(error.value)
        assert f", but must {allowed}" in str(error.value)


def test_the_limits_themselves_are_allowed(recipe):
    values = {
        "grayscale_probability": "1", "color_jitter": "(1,1,1,0.5)", "stride": "1", "resize": "(1,)",
        "resize_range": "(4,4)", "crop_scales": "(1,)", "crop_area": "(1,1)", "crop_aspect": "(1,1)", "max_bad": "0",
    }  # fmt: skip
    config = load(recipe(), [f"--config.data.{field}={value}" for field, value in values.items()])
    assert config.data.color_jitter == (1, 1, 1, 0.5)


def test_another_network_leaves_the_recipe_s_fields_of_its_own_out(recipe, caplog):
    def fields_of(name):
        return {"num_classes": 0, "num_frames": 8} | ({"width": 16} if name == "mine:Net" else {"bn": "global"})

    path = recipe("c.model.name = 'theirs'", "c.model.bn = 'group:8'", "c.model.num_frames = 16")
    config = load(path, ["--config.model.name=mine:Net", "--config.model.width=32"], model_fields=fields_of)
    assert config.model.to_dict() == {"name": "mine:Net", "num_classes": 0, "num_frames": 16, "width": 32}
    assert "mine:Net has no bn" in caplog.text
    with pytest.raises(UsageError, match=r"'model\.bn'"):
        load(path, ["--config.model.name=mine:Net", "--config.model.bn=frozen"], model_fields=fields_of)


def test_overrides_reach_every_kind_of_field(recipe):
    config = load(
        recipe(),
        [
            "--config.optim.lr=3",
            "--config.model.modules=cstm",
            "--config.model.widths=(3,4)",
            "--config.optim.nesterov=true",
            "--config.data.resize=()",
        ],
        model_fields=fields,
    )
    assert config.optim.lr == 3.0
    assert config.model.modules == "cstm"
    assert tuple(config.model.widths) == (3, 4)
    assert config.optim.nesterov is True
    assert tuple(config.data.resize) == ()


def test_missing_file():
    with pytest.raises(UsageError, match="no config file"):
        load("configs/none.py")


def test_the_network_fills_its_defaults(recipe):
    assert load(recipe("c.model.dropout = 0.1"), model_fields=fields).model.to_dict() == {
        "name": "tsn_resnet50", "num_classes": 0, "num_frames": 8, "modules": "both", "dropout": 0.1,
        "widths": (64, 128),
    }  # fmt: skip


def test_arguments():
    known = {"dataset": ("ssv1", "ssv2"), "frames": 8, "twins": False}
    assert parse_arg("ssv2,frames=16,twins", **known).to_dict() == {"dataset": "ssv2", "frames": 16, "twins": True}
    assert parse_arg(None, **known).to_dict() == {"dataset": "ssv1", "frames": 8, "twins": False}
    for wrong in ("ssv3", "frame=3", "frames=many", "dataset=jester", "twins=maybe"):
        with pytest.raises(UsageError):
            parse_arg(wrong, **known)
    for twice in ("ssv1,ssv2", "ssv1,dataset=ssv2", "frames=8,frames=16", "twins,twins=false"):
        with pytest.raises(UsageError, match="given twice"):
            parse_arg(twice, **known)


def test_round_trip_through_json(recipe):
    config = load(recipe("c.optim.groups = (('fc', 5.0, 1.0),)"), model_fields=fields)
    again = from_dict(to_dict(config))
    assert to_dict(again) == to_dict(config)
    assert again.optim.groups == (("fc", 5.0, 1.0),)
    assert fingerprint(again) == fingerprint(config)


def test_fields_that_an_old_checkpoint_lacks_take_their_defaults():
    old = to_dict(base())
    del old["optim"]["nesterov"], old["eval"]
    assert to_dict(from_dict(old)) == to_dict(base())


def test_fields_of_network_and_task_that_an_old_checkpoint_lacks_take_their_defaults(recipe):
    named = {"model_fields": fields, "task_fields": lambda name: {"weight": 0.1, "sign": 1}}
    config = load(recipe("c.model.num_frames = 4", "c.task.sign = -1"), **named)
    old = to_dict(config)
    del old["model"]["widths"], old["model"]["dropout"], old["task"]["weight"]
    assert to_dict(from_dict(old, **named)) == to_dict(config)


def test_differences_name_the_fields():
    a, b = base(), base()
    b.optim.lr = 0.5
    b.seed = 3
    assert differences(to_dict(a), to_dict(b)) == ["optim.lr: 0.01 -> 0.5", "seed: 0 -> 3"]
    assert fingerprint(a) != fingerprint(b)


def test_check_wants_sections():
    with pytest.raises(UsageError, match="section"):
        configuration.check(ConfigDict({**to_dict(base()), "data": 3}), "here")


def test_class_weights_are_a_word_or_factors(recipe):
    for text, expected in (("balanced", ("balanced",)), ("(1.0,2.0)", (1.0, 2.0)), ("1,2", (1, 2)), ("()", ())):
        config = load(recipe(), [f"--config.train.class_weights={text}"])
        assert config.train.class_weights == expected
        assert from_dict(to_dict(config)).train.class_weights == expected
    with pytest.raises(UsageError, match="choose one"):
        load(recipe("c.train.class_weights = ('balanced',)"), ["--config.data.balance=class"])


def test_several_folders_of_records(recipe):
    config = load(recipe(), ["--config.data.records=a/one, gs://two", "--config.data.mixture=(3,1)"])
    assert record_folders(config) == ["a/one", "gs://two"]
    for weights in ("(1,2,3)", "(1,0)", "(1,'x')"):
        with pytest.raises(UsageError, match=r"data\.mixture"):
            load(recipe(), ["--config.data.records=a,b", f"--config.data.mixture={weights}"])
