"""The recipes of TCM-Net, and of TSM and TSN, with which it shares them."""

import pytest

from tests.configs.recipes import network, read, sweep
from vidrec.errors import UsageError
from vidrec.train.optim import learning_rate

TCM, TSM, TSN = "configs/tcm.py", "configs/tsm.py", "configs/tsn.py"


def rates(config, epochs):
    schedule = learning_rate(config.optim, total_steps=10**6, steps_per_epoch=100)
    return [float(schedule(100 * epoch)) for epoch in epochs]


def test_tables():
    tables = {title: [network(read(TCM, row)) for row in rows] for title, rows in sweep(TCM).items()}
    assert next(iter(tables)) == "datasets"
    assert [net.num_classes for net in tables["datasets"]] == [174, 174, 174, 174, 400, 400, 101, 101, 51, 51]
    assert [net.tcm_stages for net in tables["Table VII: position"]] == [
        (3,), (2,), (3,), (4,), (5,), (2, 3), (2, 3, 4), (2, 3, 4, 5)
    ]  # fmt: skip
    assert [net.parts for net in tables["Table VIII: parts"]] == ["none", "mtdm", "tam", "both"]
    assert [net.tempos for net in tables["tempos"]] == [("fast",), ("slow",), ("fast", "slow")]
    hosts = [(net.tcm_host, net.parts) for net in tables["Table III: networks with and without it"]]
    assert hosts[-4:] == [("tea", "none"), ("tea", "both"), ("resnext3d", "none"), ("resnext3d", "both")]


def test_something_something_as_in_the_authors_code():
    config = read(TCM, "ssv1")
    assert rates(config, (0, 29, 30, 40, 45)) == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])
    optim = config.optim
    assert (optim.nesterov, optim.weight_decay, optim.clip_norm, optim.momentum) == (True, 5e-4, 200.0, 0.9)
    assert (config.train.batch_size, config.train.epochs, config.model.dropout) == (32, 50.0, 0.5)
    assert (config.data.resize, config.data.crop, config.data.flip) == ((240, 320), "multiscale", "skip")
    assert not any("fc" in pattern for pattern, *_ in optim.groups)


def test_the_ablations_own_schedule():
    config = read(TCM, "ssv1,depth=18")
    assert rates(config, (0, 19, 20, 30)) == pytest.approx([2e-2, 2e-2, 2e-3, 2e-4])
    assert (config.train.batch_size, config.train.epochs) == (64, 40.0)


@pytest.mark.parametrize(
    ("row", "lr", "batch", "epochs", "decay", "bn"),
    [
        ("ssv1", 0.01, 64, 50.0, 5e-4, "group:8"),
        ("kinetics400", 0.02, 128, 50.0, 1e-4, "group:8"),
        ("kinetics400,dense", 0.02, 128, 100.0, 1e-4, "group:8"),
        ("hmdb51", 0.001, 64, 25.0, 5e-4, "partial"),
    ],
)
def test_what_tsm_does(row, lr, batch, epochs, decay, bn):
    for file, name in ((TSM, "tsm_resnet50"), (TSN, "tsn_resnet50")):
        config = read(file, row)
        found = (config.optim.lr, config.train.batch_size, config.train.epochs, config.optim.weight_decay)
        assert (*found, config.model.bn, config.model.name) == (lr, batch, epochs, decay, bn, name)
        assert config.optim.groups[0] == (r"^fc/kernel$", 5.0, 1.0)
        assert (config.data.sampling == "dense") == ("dense" in row)


def test_kinetics_and_its_offspring_as_tsm_with_dense_clips():
    assert read(TCM, "kinetics400").data == read(TSM, "kinetics400,dense").data
    assert read(TCM, "ucf101").optim == read(TSM, "ucf101").optim
    assert (read(TCM, "kinetics400").eval.clips, read(TCM, "ucf101").eval.clips) == (10, 2)


def test_volumes_of_sixteen_consecutive_frames():
    config = read(TCM, "ssv1,host=resnext3d,frames=16")
    assert config.model.name == "tcm_resnet101"
    assert (config.data.sampling, config.data.stride, config.data.image_size) == ("strided", 1, 112)


def test_frames_of_another_tempo():
    for file, row in ((TCM, "ssv1,depth=18,frames=4,stride=4"), (TSM, "ssv1,depth=18,frames=4,stride=4")):
        data = read(file, row).data
        assert (data.sampling, data.stride) == ("strided", 4)


@pytest.mark.parametrize(
    ("file", "arg", "named"),
    [
        (TCM, "ssv1,stages=2+3", "stages"),
        (TCM, "toy,depth=18", "depth"),
        (TSM, "toy,dense", "dense"),
        (TSM, "ssv1,dense", "kinetics400"),
        (TSM, "kinetics400,dense,stride=4", "stride"),
        (TSN, "ssv1,frmes=8", "did you mean 'frames'"),
        (TSN, "ssv1,network=tsm", "network=tsm"),
        (TSN, "ssv1,tsm", "tsm"),
    ],
)
def test_wrong_arguments(file, arg, named):
    with pytest.raises(UsageError, match=named):
        read(file, arg)


def test_a_host_of_the_wrong_depth():
    with pytest.raises(UsageError, match="tcm_resnet101"):
        network(read(TCM, "ssv1,host=resnext3d,depth=18"))
