"""Every row of every recipe loads, names a network that can be made, and a task that can train it."""

import re
import shlex
from pathlib import Path

import jax
import pytest
from flax.traverse_util import flatten_dict

from tests.configs.recipes import network, read, sweep
from vidrec.cli import make_parser
from vidrec.data.clips import ClipSpec
from vidrec.data.datasets import READERS
from vidrec.demo import TOYS
from vidrec.models.registry import clip_shape, list_models
from vidrec.train.optim import learning_rate, make_optimizer
from vidrec.train.recipe import load_recipe
from vidrec.train.tasks import make_task

FILES = sorted(str(path) for path in Path("configs").glob("*.py") if path.stem != "demo")
SWEEPS = {file: sweep(file) for file in FILES}
ROWS = sorted({(file, row) for file, tables in SWEEPS.items() for rows in tables.values() for row in rows})
CLASSES = {"ssv1": 174, "ssv2": 174, "kinetics400": 400, "ucf101": 101, "hmdb51": 51, "jester": 27}
TOY_ROWS = [*((file, "toy") for file in FILES), *(("configs/demo.py", name) for name in TOYS)]


@pytest.mark.parametrize(("file", "row"), [*ROWS, *TOY_ROWS])
def test_a_row_can_be_run(file, row):
    config = read(file, row)
    model = network(config)
    task = make_task(model, config)
    clip = ClipSpec.from_config(config, model.num_frames, model.clip_length, task.views)
    given = dict(part.partition("=")[::2] for part in row.split(","))
    assert model.num_classes == CLASSES.get(row.partition(",")[0], 8)  # `network` gives toys eight
    assert model.num_frames == int(given.get("frames", 8))
    assert clip.frames == model.clip_length
    assert getattr(model, "image_size", clip.image_size) == clip.image_size
    assert (config.task.name == "twins") == ("twins" in given) == (task.views == 2)
    assert learning_rate(config.optim, total_steps=100, steps_per_epoch=10)(50) > 0
    if config.model.get("bn", "").startswith("group:"):
        assert config.train.batch_size % int(config.model.bn.removeprefix("group:")) == 0


@pytest.mark.parametrize("file", FILES)
def test_the_optimizer_of_a_recipe_knows_its_network(file):
    config = read(file, SWEEPS[file]["datasets"][0])
    model = network(config)
    clips = jax.ShapeDtypeStruct((1, *clip_shape(model, config.data.image_size)), "float32")
    params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), clips)["params"]
    jax.eval_shape(make_optimizer(config.optim, lambda step: 0.1).init, params)
    for pattern, *_ in config.optim.groups:  # a group that nothing belongs to would be a slip
        assert any(re.search(pattern, path) for path in flatten_dict(params, sep="/")), pattern


@pytest.mark.parametrize(
    ("file", "row", "clips", "crops", "average"),
    [
        ("stm", "ssv1,frames=16", 10, 3, "softmax"),
        ("stm", "kinetics400,network=tsm", 10, 3, "softmax"),
        ("stm", "hmdb51", 10, 3, "softmax"),
        ("stm", "ssv1,depth=18,views=1", 1, 1, "softmax"),
        ("tsm", "ssv2", 1, 1, "logits"),
        ("tsm", "kinetics400", 10, 3, "logits"),
        ("tsn", "kinetics400", 10, 3, "logits"),
        ("tcm", "ssv1", 1, 1, "logits"),
        ("tcm", "kinetics400", 10, 3, "logits"),
        ("tcm", "ucf101", 2, 1, "logits"),
        ("tdn", "ssv1", 1, 1, "softmax"),
        ("tdn", "kinetics400", 10, 3, "softmax"),
        ("tefe", "jester", 1, 1, "softmax"),
        ("ttsn", "hmdb51", 1, 1, "softmax"),
        ("direcformer", "kinetics400", 1, 3, "logits"),
    ],
)
def test_views_are_those_of_the_papers(file, row, clips, crops, average):
    views = read(f"configs/{file}.py", row).eval
    assert (views.clips, views.crops, views.average) == (clips, crops, average)


@pytest.mark.parametrize("file", [*FILES, "configs/demo.py"])
def test_the_commands_of_a_header_can_be_run(file):
    header = Path(file).read_text().split("\n\n")[1]
    commands = [shlex.split(line) for line in header.replace("\\\n", " ").splitlines()]
    assert {"convert", "train"} <= {verb for _, verb, *_ in commands}
    for program, *command in commands:
        assert program == "vidrec"
        arguments, rest = make_parser().parse_known_args(command)
        assert all(re.fullmatch(r"--config\.[a-z_.]+=\S+", other) for other in rest), rest
        assert getattr(arguments, "dataset", "list") in READERS
        assert getattr(arguments, "model", None) in (None, *list_models())
        if getattr(arguments, "config", None):
            load_recipe(arguments.config, rest)


def test_the_demo_s_recipe_names_all_its_networks():
    listed = Path("configs/demo.py").read_text().partition("Argument: the network, ")[2].partition(". ")[0]
    assert listed.split() == " | ".join(TOYS).split()


def test_every_kind_of_network_has_a_recipe():
    kinds = {read(*row).model.name.partition("_")[0] for row in ROWS}
    assert kinds == {name.partition("_")[0] for name in list_models()}
