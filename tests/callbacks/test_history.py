"""What a history draws and says."""

import sys

import matplotlib
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.callbacks import History, LearningRateScheduler

X = np.linspace(-1, 1, 40, dtype="float32").reshape(20, 2)


@pytest.fixture(scope="module")
def history():
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae", "r2_score"])
    rate = LearningRateScheduler(lambda epoch: 0.1 * 0.5**epoch)
    data = X, X[:, :1]
    return model.fit(*data, epochs=5, verbose=0, validation_data=data, validation_freq=2, callbacks=[rate])


def logs(**values):
    history = History()
    history.history = {name: list(numbers) for name, numbers in values.items()}
    history.epoch = list(range(max(map(len, values.values()))))
    return history


def curves(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_each_metric_has_a_panel_with_training_and_validation(history):
    figure = history.plot()
    assert [axes.get_title() for axes in figure.axes] == ["loss", "mae", "r2_score", "learning_rate"]
    loss = curves(figure.axes[0])
    assert loss["training"].tolist() == [[i + 1, v] for i, v in enumerate(history.history["loss"])]
    assert loss["validation"][:, 0].tolist() == [2, 4]  # with validation_freq=2
    assert "validation" not in curves(figure.axes[3])


def test_each_value_stands_at_its_epoch():
    """Also where validation comes in epochs of a list, and where the first epoch is not 0."""
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    data = X, X[:, :1]
    history = model.fit(*data, initial_epoch=2, epochs=9, verbose=0, validation_data=data, validation_freq=[4, 5, 9])
    drawn = curves(history.plot().axes[0])
    assert drawn["training"][:, 0].tolist() == [3, 4, 5, 6, 7, 8, 9] and drawn["validation"][:, 0].tolist() == [4, 5, 9]


@pytest.mark.parametrize("metrics", ["loss", ["loss"], ("mae", "loss")])
def test_metrics_are_chosen_by_name(history, metrics):
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    assert [axes.get_title() for axes in history.plot(metrics).axes] == wanted
    assert next(iter(curves(history.plot("val_loss").axes[0]))) == "validation"


def test_epochs_are_integers_and_the_best_one_is_marked(history):
    figure = history.plot(["loss", "r2_score"])
    figure.canvas.draw()
    for axes, best in zip(figure.axes, (np.argmin, np.argmax)):
        assert all(tick == round(tick) for tick in axes.get_xticks())
        values = curves(axes)["validation"]
        (star,) = [line for name, line in curves(axes).items() if name.startswith("best")]
        assert star[0].tolist() == values[best(values[:, 1])].tolist()


def test_figures_belong_to_the_caller(history):
    backend = matplotlib.rcParams._get_backend_or_none()
    assert history.plot()._repr_png_().startswith(b"\x89PNG")
    assert matplotlib.rcParams._get_backend_or_none() == backend
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan, 0.5], [np.nan, np.nan], [np.inf, 1.0], [0.0] * 40])
def test_odd_numbers_are_drawn_and_told(values):
    history = logs(loss=values)
    assert history.plot()._repr_png_() and history._repr_html_() and f"{len(values)} epoch" in repr(history)


def test_names_are_not_read_as_formulas_or_tags():
    history = logs(**{"$\\bad": [1.0, 2.0], "<b>": [1.0, 2.0], "层": [2.0, 1.0]})
    assert history.plot()._repr_png_()
    assert "<b>" not in history._repr_html_() and "&lt;b&gt;" in history._repr_html_()


def test_two_fits_into_one_history_go_on(history):
    both = logs(loss=[3.0, 2.0, 1.0, 0.5])
    both.epoch = [0, 1]
    assert curves(both.plot().axes[0])["training"][:, 0].tolist() == [1, 2, 3, 4]


def test_a_history_says_what_it_holds(history):
    assert repr(history).startswith("<History: 5 epochs; loss ") and "val_loss" in repr(history)
    assert "best 0.5 in epoch 2" in repr(logs(loss=[2.0, 0.5, 1.0]))
    assert repr(History()) == "<History: 0 epochs>"
    assert "val_mae" in history._repr_html_() and "0 epochs" in History()._repr_html_()


@pytest.mark.parametrize("metrics", ["los", ["loss", "los"]])
def test_a_name_that_was_not_logged_is_told(history, metrics):
    with pytest.raises(
        ValueError, match=r"History: metrics must be names in the logs .*got 'los'\. Did you mean 'loss'"
    ):
        history.plot(metrics)


def test_no_epoch_is_told():
    with pytest.raises(ValueError, match="plot needs an epoch in the logs"):
        History().plot()
    with pytest.raises(ValueError, match="call fit first"):
        History().plot("loss")
