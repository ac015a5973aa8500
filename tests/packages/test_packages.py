"""Packages that import keras train, save, load and predict with `lamina.as_keras()`, each in a process of its own."""

import os
import subprocess
import sys
import textwrap

import pytest

START = """
import lamina
lamina.as_keras()
import numpy as np
import keras
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)
x = rng.normal(size=(48, 4)).astype("float32")
y = x @ np.array([[1.0], [-1.0], [0.5], [0.0]], "float32")
"""

TCN = """
from tcn import TCN

series = rng.normal(size=(16, 8, 2)).astype("float32")
total = series[:, :, 0].sum(1, keepdims=True)
inputs = keras.Input((None, 2))
steps = TCN(4, kernel_size=2, dilations=(1, 2), return_sequences=True, use_batch_norm=True, dropout_rate=0.1)(inputs)
outputs = keras.layers.Dense(1)(TCN(4, dilations=(1,), use_skip_connections=False, use_layer_norm=True)(steps))
functional = keras.Model(inputs, outputs)
sequential = keras.Sequential([keras.Input((8, 2)), TCN(4, dilations=(1, 2)), keras.layers.Dense(1)])
for model in (functional, sequential):
    model.compile("adam", "mse")
    before = model.evaluate(series, total, verbose=0)
    model.fit(series, total, epochs=3, batch_size=16, verbose=0)
    assert model.evaluate(series, total, verbose=0) < before
    model.save("tcn.keras")
    again = keras.models.load_model("tcn.keras", custom_objects={"TCN": TCN})
    assert np.array_equal(again.predict(series, verbose=0), model.predict(series, verbose=0))
"""

SCIKERAS = """
import pickle
from scikeras.wrappers import KerasClassifier, KerasRegressor
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def build(meta, hidden=4):
    classifies = "n_classes_" in meta
    return keras.Sequential([
        keras.Input((meta["n_features_in_"],)), keras.layers.Dense(hidden, "relu"),
        keras.layers.Dense(1, "sigmoid" if classifies else None),
    ])

own = dict(model=build, hidden=4, optimizer="adam", optimizer__learning_rate=0.05, epochs=10, verbose=0)
search = GridSearchCV(make_pipeline(StandardScaler(), KerasRegressor(**own, loss="mse")),
                      {"kerasregressor__hidden": [2, 8]}, cv=2).fit(x, y[:, 0])
assert search.best_score_ > 0
labels = np.where(y[:, 0] > 0, "up", "down")
stopping = keras.callbacks.EarlyStopping
classifier = KerasClassifier(**own, loss="binary_crossentropy", callbacks=stopping, callbacks__monitor="loss")
fitted = clone(classifier).fit(x, labels)
assert set(fitted.predict(x)) <= {"up", "down"} and fitted.predict_proba(x).shape == (48, 2)
again = pickle.loads(pickle.dumps(fitted))
assert np.array_equal(again.predict_proba(x), fitted.predict_proba(x))
assert again.partial_fit(x, labels).score(x, labels) > 0.6
"""

TUNER = """
import keras_tuner

def build(hp):
    model = keras.Sequential([keras.Input((4,))])
    for i in range(hp.Int("layers", 1, 2)):
        model.add(keras.layers.Dense(hp.Choice(f"units_{i}", [2, 4]), "relu"))
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "mse")
    return model

kinds = {"RandomSearch": {"max_trials": 2}, "BayesianOptimization": {"max_trials": 3}, "Hyperband": {"max_epochs": 2}}
for kind, options in kinds.items():
    own = dict(objective="val_loss", directory=kind, project_name="search", seed=1, **options)
    tuner = getattr(keras_tuner, kind)(build, **own)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=1)
    tuner.search(x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=[stopping])
    best, trial = tuner.get_best_models(1)[0], tuner.oracle.get_best_trials(1)[0]
    assert abs(best.evaluate(x, y, verbose=0) - trial.score) < 1e-5
    tuner.hypermodel.build(tuner.get_best_hyperparameters()[0]).fit(x, y, verbose=0)
    assert len(getattr(keras_tuner, kind)(build, **own).oracle.trials) == len(tuner.oracle.trials)
    best.save("best.keras")
    assert np.array_equal(keras.models.load_model("best.keras").predict(x, verbose=0), best.predict(x, verbose=0))
"""

BAYESFLOW = """
import bayesflow

def prior():
    return {"theta": rng.normal(size=2).astype("float32")}

def likelihood(theta):
    return {"data": (theta + 0.3 * rng.normal(size=(6, 2))).astype("float32")}

simulator = bayesflow.make_simulator([prior, likelihood])
thin = {"subnet_kwargs": {"widths": (8,)}}
wide = dict(summary_dim=3, depth=1, mlp_widths_equivariant=(8,), mlp_widths_invariant_inner=(8,),
            mlp_widths_invariant_outer=(8,), mlp_widths_invariant_last=(8,))
set_transformer = dict(summary_dim=3, embed_dims=(8,), num_heads=(2,), mlp_depths=(1,), mlp_widths=(8,), num_seeds=1)
for inference, summary, online in (
    (bayesflow.networks.CouplingFlow(depth=2, **thin), bayesflow.networks.DeepSet(**wide), True),
    (bayesflow.networks.FlowMatching(**thin), bayesflow.networks.SetTransformer(**set_transformer), False),
):
    flow = bayesflow.BasicWorkflow(
        simulator=simulator, inference_network=inference, summary_network=summary, inference_variables=["theta"],
        summary_variables=["data"], checkpoint_filepath=".", checkpoint_name=f"flow_{online}",
    )
    if online:
        history = flow.fit_online(epochs=1, num_batches_per_epoch=2, batch_size=8, verbose=0)
    else:
        simulated = flow.simulate(16)
        history = flow.fit_offline(simulated, epochs=1, batch_size=8, validation_data=flow.simulate(8), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    given = {"data": simulator.sample(2)["data"]}
    keras.utils.set_random_seed(1)
    samples = flow.sample(conditions=given, num_samples=3)["theta"]
    assert samples.shape == (2, 3, 2) and np.isfinite(samples).all()
    again = keras.saving.load_model(f"flow_{online}.keras")
    keras.utils.set_random_seed(1)
    assert np.array_equal(again.sample(conditions=given, num_samples=3)["theta"], samples)
"""


@pytest.mark.parametrize(
    ("package", "program"),
    [("tcn", TCN), ("scikeras", SCIKERAS), ("keras_tuner", TUNER), ("bayesflow", BAYESFLOW)],
    ids=["keras-tcn", "scikeras", "keras-tuner", "bayesflow"],
)
def test_a_package_trains_saves_loads_and_predicts(package, program, tmp_path):
    end = f"\nassert keras.Model is lamina.Model and {package!r} in __import__('sys').modules\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(START + program + end)],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
