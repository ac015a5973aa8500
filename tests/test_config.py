"""Settings of the process."""

import os
import subprocess
import sys

import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

X = np.arange(40, dtype="float32")[:, None]


@pytest.fixture
def no_limits():
    yield
    lamina.config.set_max_epochs(None)
    lamina.config.set_max_steps_per_epoch(None)


@pytest.mark.filterwarnings("ignore:.*[Ll]imit")
def test_limits_of_runs_hold_as_in_keras(no_limits):
    def program(keras):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile(keras.optimizers.SGD(1e-4), "mse")
        keras.config.set_max_epochs(2)
        keras.config.set_max_steps_per_epoch(2)
        steps = []
        watch = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: steps.append(batch),
            on_test_batch_end=lambda batch, logs: steps.append(10 + batch),
        )
        given = {"shuffle": False, "verbose": 0, "callbacks": [watch]}
        history = model.fit(X, 2 * X, epochs=5, batch_size=8, validation_data=(X, X), **given).history
        found = (
            keras.config.max_epochs(),
            keras.config.max_steps_per_epoch(),
            model.evaluate(X, X, batch_size=8, verbose=0),
            model.predict(X, batch_size=8, verbose=0),
            model.predict(((X[i : i + 4],) for i in range(0, 40, 4)), verbose=0),
            model.fit(X, X, epochs=1, steps_per_epoch=1, batch_size=8, shuffle=False, verbose=0).history,
        )
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)
        return history, steps, found, len(model.fit(X, X, epochs=3, verbose=0).epoch), keras.config.max_epochs()

    same_in_both(program)


def test_a_limit_says_that_it_holds(no_limits):
    model = lamina.Sequential([lamina.layers.Dense(1)])
    model.compile("sgd", "mse")
    lamina.config.set_max_epochs(1)
    with pytest.warns(UserWarning, match=r"fit: the number of epochs is limited to 1 by lamina\.config\."):
        model.fit(X, X, epochs=2, verbose=0)
    for wrong in (0, -1, 1.5, True, "two"):
        with pytest.raises(ValueError, match="set_max_epochs: max_epochs must be a positive integer, got"):
            lamina.config.set_max_epochs(wrong)
    assert lamina.config.max_epochs() == 1


def test_the_environment_sets_limits():
    code = "from lamina import config; print(config.max_epochs(), config.max_steps_per_epoch())"
    environment = {**os.environ, "KERAS_MAX_EPOCHS": "3", "KERAS_MAX_STEPS_PER_EPOCH": "7"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["3", "7"]


def test_files_never_run_code_whatever_a_program_says():
    with pytest.raises(lamina.saving.UnsafeFileError, match=r"custom_objects=\{name: function\}"):
        lamina.config.enable_unsafe_deserialization()
    assert lamina.config.is_nnx_enabled() is False
