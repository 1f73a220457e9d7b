"""One global batch is one global batch, on any number of devices and processes."""

import socket

import pytest

from tests.end_to_end.runs import assert_close_run, finish, start, straight


@pytest.fixture(scope="module")
def single(tiny_config, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "single"
    straight(tiny_config(), run)
    return run


@pytest.mark.parametrize("devices", [2, 8])
def test_devices(devices, single, tiny_config, tmp_path):
    process = start(tiny_config(), tmp_path / "many", devices=devices)
    assert finish(process) == 0, process.errors
    assert_close_run(single, tmp_path / "many")


def test_two_processes_of_two_devices(single, tiny_config, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    run = tmp_path / "many"
    processes = [start(tiny_config(), run, devices=2, hosts=(address, 2, number)) for number in (0, 1)]
    codes = [finish(process) for process in processes]
    assert codes == [0, 0], [process.errors for process in processes]
    assert_close_run(single, run)
