"""Processes that are killed in the middle of a save: what was saved before opens whole, and training goes on."""

import os
import subprocess
import sys

import numpy as np
import pytest

import lamina
from tests.distribution.test_processes import ROOT, free_address
from tests.distribution.together import X, Y, make


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Orbax's own
@pytest.mark.parametrize(("kind", "at"), [("json", 1), ("json", 3), ("backup", 1), ("orbax", 1)])
def test_the_former_state_is_whole(kind, at, tmp_path):
    address = free_address()
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.distribution.killed"]
    with open(tmp_path / "said", "w") as said:
        both = [
            subprocess.Popen(
                [*command, str(i), address, str(tmp_path), kind, str(at)],
                env=env, cwd=ROOT, stdout=said, stderr=said, stdin=subprocess.DEVNULL,
            )
            for i in range(2)
        ]  # fmt: skip
        try:
            assert both[0].wait(120) == -9, (tmp_path / "said").read_text()[-3000:]
        finally:
            for each in both:
                each.kill()
                each.wait()
    with np.load(tmp_path / "expected.npz") as arrays:
        expected = list(arrays.values())
    if kind == "orbax":
        model = lamina.saving.load_model(tmp_path / "orbax")
    else:
        model = make()
    if kind == "json":
        model.load_weights(tmp_path / "m.weights.json")
    if kind == "backup":
        backup = lamina.callbacks.BackupAndRestore(tmp_path / "backup")
        seen = []
        noting = lamina.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[noting, backup])
        assert seen == [1]
    else:
        for a, b in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(a, b)
        model.fit(X, Y, batch_size=8, verbose=0)
