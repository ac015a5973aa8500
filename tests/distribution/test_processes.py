"""Two processes that train together do what one does, and agree on all that each could have seen differently."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax import tree_util

import lamina
from lamina.core import placement
from lamina.data import windows

ROOT = Path(__file__).parents[2]


def free_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def run(count, folder):
    """What came out of each process."""
    address = free_address()
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // count}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.distribution.together"]
    started = [
        subprocess.Popen(
            [*command, str(i), str(count), address, str(folder)],
            env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
        for i in range(count)
    ]  # fmt: skip
    found = []
    for process in started:
        try:
            out, error = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            for each in started:
                each.kill()
            raise
        assert process.returncode == 0, error[-3000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    one = run(1, tmp_path_factory.mktemp("one"))
    folder = tmp_path_factory.mktemp("two")
    return one[0], run(2, folder), folder


@pytest.mark.parametrize("plan", ["data", "fsdp"])
@pytest.mark.parametrize("what", ["arrays", "predict", "saved", "model of Orbax", "weights of Orbax"])
def test_two_processes_compute_what_one_does(outcomes, what, plan):
    one, both, _ = outcomes
    for each in both:
        np.testing.assert_allclose(each[f"{what} {plan}"], one[f"{what} None"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "what", ["seeds", "slow", "quick", "windows, quick", "own streams", "logged", "stopped", "ended"]
)
def test_processes_agree(outcomes, what):
    _, (first, second), _ = outcomes
    assert first[what] == second[what]


def test_many_batches_of_a_stream_go_at_once(outcomes):
    one, (first, _), _ = outcomes
    assert sum(first["windows, quick"]) == 40 and len(first["windows, quick"]) < 20
    assert first["windows, one by one"] == [1] * 40
    assert first["quick"] == first["one by one"]
    for name in ("quick", "own streams"):
        np.testing.assert_allclose(first[name], one["quick"], rtol=1e-4)


def test_seeds_are_the_first_process_s(outcomes):
    one, (first, _), _ = outcomes
    np.testing.assert_allclose(first["seeds"], one["seeds"], rtol=1e-4)


def test_one_that_stops_stops_all_and_one_stream_that_ends_ends_all(outcomes):
    _, (first, _), _ = outcomes
    weights = len(first["seeds"]) - 1
    assert len(first["stopped"]) == 2 + weights
    assert len(first["ended"]) == 2 + weights  # of three epochs, the second of two steps


def test_each_process_reads_its_rows_alone(outcomes):
    _, both, _ = outcomes
    for each in both:
        assert each["own rows"] == [4, 2]  # of 8, and of the 4 of the last batch


def test_one_process_writes_and_nothing_is_left_over(outcomes):
    _, _, folder = outcomes
    names = ["backup", "best.keras", "data orbax", "data.keras", "events", "fsdp orbax", "fsdp.keras", "log.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [line[0] for line in (folder / "log.csv").read_text().split()] == ["e", "0", "1"]
    assert len(list((folder / "events" / "train").iterdir())) == 1


@pytest.mark.parametrize("count", [1, 2, 4])
def test_rows_joined_over_processes_are_those_of_one(count, monkeypatch):
    x = np.arange(44)
    source = lamina.data.sources.make_source(x, batch_size=8, shuffle=True, seed=5)

    def epoch(own):
        monkeypatch.setattr(placement, "own_rows", own)
        return [tree_util.tree_leaves(window.data)[0][: window.count] for window in windows.of_arrays(source, 2)]

    whole = epoch(lambda size: None)
    parts = [epoch(lambda size, i=i: slice(i * size // count, (i + 1) * size // count)) for i in range(count)]
    for expected, *found in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)
