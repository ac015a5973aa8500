"""How a layer's parts are found: by class, in one look, in containers of all kinds, and at what cost."""

from collections import OrderedDict, defaultdict, namedtuple
from unittest.mock import MagicMock

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.layer import parts
from lamina.layer.parts import look, walk

X = np.ones((2, 3), "float32")
Pair = namedtuple("Pair", "first second")


class Listed(list):
    """A list that counts how often it is gone through."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


class Table(dict):
    """A dict that counts how often its values are gone through."""

    times = 0

    def values(self):
        self.times += 1
        return super().values()


class Holds(layers.Layer):
    def __init__(self, value=None):
        super().__init__()
        self.value = value

    def call(self, x):
        return x


DENSE = layers.Dense(2)


@pytest.mark.parametrize(
    "container",
    [
        [DENSE], (DENSE,), {DENSE}, frozenset({DENSE}), {"a": DENSE}, Pair(1, DENSE), OrderedDict(a=DENSE),
        defaultdict(list, a=[DENSE]), Listed([DENSE]), [[], [[DENSE]]], {"a": {"b": (1, [DENSE])}}, [DENSE, DENSE],
    ],
    ids=lambda c: type(c).__name__,
)  # fmt: skip
def test_parts_are_found_in_containers(container):
    assert look(Holds(container)).layers == [DENSE]


def test_every_kind_of_part_is_found_once_and_in_its_place():
    variable, seed, metric = lamina.Variable(1.0), lamina.random.SeedGenerator(1), lamina.metrics.Mean()
    layer = Holds([metric, {"a": variable, "b": seed}, DENSE])
    layer.again = [DENSE, variable, seed, metric]
    assert look(layer) == ([DENSE], [variable], [seed], [metric])
    assert layer.variables == [variable, seed.state] and layer.weights == [variable] and layer.metrics == [metric]


def own_container(kind):
    value = kind()
    if isinstance(value, list):
        value.extend([value, DENSE])
    else:
        value.update(me=value, part=DENSE)
    return value


@pytest.mark.parametrize("kind", [list, dict, OrderedDict])
def test_containers_that_hold_themselves_end(kind):
    layer = Holds(own_container(kind))
    assert look(layer).layers == [DENSE]
    layer.value.clear()
    assert look(layer).layers == []


def test_layers_that_hold_each_other_end():
    first, second = Holds(), Holds()
    first.value, second.value = second, first
    assert walk(first) == [first, second] and walk(second) == [second, first]


def test_a_chain_of_layers_may_be_longer_than_the_stack_of_calls():
    first = last = Holds()
    for _ in range(3000):
        last.value = Holds()
        last = last.value
    last.w = last.add_weight((2,))
    assert len(walk(first)) == 3001 and first.weights == [last.w]
    first.trainable = False
    assert first.trainable_weights == []


def test_variables_of_a_frozen_layer_say_that_they_are():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(2), layers.BatchNormalization()])
    dense, norm = model.layers
    dense.bias.trainable = False  # by itself
    before = [w.trainable for w in model.weights]
    model.trainable = False
    assert not any(w.trainable for w in model.weights)
    norm.trainable = True
    assert [w.trainable for w in model.weights] == [False, False, True, True, False, False]
    model.trainable = True
    assert [w.trainable for w in model.weights] == before == [True, False, True, True, False, False]


def test_lora_keeps_its_kernel_frozen_through_freezing():
    dense = layers.Dense(2)
    dense.build((None, 3))
    dense.trainable = False
    dense.enable_lora(1)
    dense.trainable = True
    assert [w.shape for w in dense.trainable_weights] == [(2,), (3, 1), (1, 2)]


class Answers:
    """Has every attribute."""

    def __getattr__(self, name):
        return lambda *args: 0


@pytest.mark.parametrize("value", [Answers(), MagicMock(), MagicMock(spec=lamina.metrics.Mean)])
def test_what_answers_to_every_name_is_no_part(value):
    layer = Holds(value)
    assert look(layer) == ([], [], [], [])
    assert layer.metrics == [] and layer.variables == []
    layer(X)


def test_an_object_with_a_metrics_methods_is_none():
    class Almost:
        def update_state(self): ...

        def reset_state(self): ...

    assert Holds(Almost()).metrics == []


@pytest.mark.parametrize(
    "table",
    [Listed(["word"] * 100_000), Table((i, [i, i]) for i in range(1000)), Listed((i, "w") for i in range(1000))],
    ids=["words", "dict of lists", "pairs"],
)
def test_a_large_table_is_gone_through_once(table):
    model = lamina.Sequential([lamina.Input((3,)), Holds(table), layers.Dense(2)])
    table.times = 0
    for _ in range(10):
        assert len(model.variables) == 2
    model.compile("sgd", "mse")
    model.train_on_batch(X, X[:, :2])
    assert table.times <= 1


def test_a_large_table_inside_another_container_is_gone_through_once():
    table = Listed(["word"] * 1000)
    layer = Holds({"vocabulary": table, "sizes": (1, 2)})
    for _ in range(10):
        assert layer.variables == []
    assert table.times == 1


def test_a_large_table_is_looked_at_again_when_its_length_changes_or_another_takes_its_place():
    layer = Holds(["word"] * 1000)
    assert look(layer).layers == []
    layer.value.append(DENSE)
    assert look(layer).layers == [DENSE]
    layer.value = ["word"] * 1001
    assert look(layer).layers == []
    layer.value = ["word"] * 1000 + [DENSE]
    assert look(layer).layers == [DENSE]


def test_a_table_that_was_replaced_is_let_go():
    layer = Holds(["word"] * 1000)
    look(layer)
    layer.value = None
    look(layer)
    assert not layer._without_parts


def test_lists_that_are_filled_later_are_looked_into():
    layer = Holds([[] for _ in range(300)])
    assert look(layer).layers == []
    layer.value[7].append(DENSE)
    assert look(layer).layers == [DENSE]


def test_a_look_at_many_layers_looks_at_each_once(monkeypatch):
    model = lamina.Sequential([lamina.Input((3,)), *(layers.Dense(3) for _ in range(20))])
    seen, plain = [], parts.look
    monkeypatch.setattr(parts, "look", lambda whole: seen.append(whole) or plain(whole))
    for ask in (lambda: model.variables, lambda: model.trainable_weights, lambda: model.metrics, lambda: walk(model)):
        seen.clear()
        ask()
        assert len(seen) == len({id(each) for each in seen}) == 21


def test_attributes_may_change_their_class():
    layer = Holds(1)
    assert look(layer).layers == []
    layer.value = DENSE
    assert look(layer).layers == [DENSE]
    layer.value = [1]
    assert look(layer).layers == []
    del layer.value
    assert look(layer).layers == []


def test_a_class_beside_the_layers_may_hide_attributes():
    class Hides(Holds):
        _not_parts = Holds._not_parts | {"value"}

    assert look(Hides(DENSE)).layers == [] and look(Holds(DENSE)).layers == [DENSE]


def test_one_look_is_enough_until_a_layer_is_built_or_called(monkeypatch):
    model = lamina.Sequential([lamina.Input((3,)), *(layers.Dense(3) for _ in range(5))])
    seen, plain = [], parts.look
    monkeypatch.setattr(parts, "look", lambda whole: seen.append(whole) or plain(whole))
    with parts.one_look():
        for _ in range(3):
            assert len(model.variables) == 10 and model.metrics == [] and len(walk(model)) == 6
        assert len(seen) == 6
        model.add(layers.Dense(2))
        assert len(model.variables) == 12
        model(X)
        model.layers[0].extra = layers.Dense(1)
        model(X)
        assert len(walk(model)) == 8
    model.layers[0].extra = None
    assert len(walk(model)) == 7


def test_a_batch_at_a_time_looks_at_a_model_twice(monkeypatch):
    model = lamina.Sequential([lamina.Input((3,)), *(layers.Dense(3) for _ in range(5))])
    model.compile("sgd", "mse")
    model.train_on_batch(X, X)
    seen, plain = [], parts.look
    monkeypatch.setattr(parts, "look", lambda whole: seen.append(whole) or plain(whole))
    model.train_on_batch(X, X)
    assert len(seen) <= 2 * 6


class Chain(layers.Layer):
    """Keeps its layers under Keras's own name."""

    def __init__(self, steps, **kwargs):
        super().__init__(**kwargs)
        self._layers = steps

    def call(self, x):
        for layer in self._layers:
            x = layer(x)
        return x


def test_a_program_may_set_what_keras_calls_layers_and_metrics():
    steps, mean = (layers.Dense(2), layers.Dense(1)), lamina.metrics.Mean()
    chain = Chain(steps)
    assert chain(X).shape == (2, 1) and len(chain.weights) == 4
    assert chain._layers is steps and chain._flatten_layers(include_self=False) == list(steps)
    assert chain._metrics == []
    chain._metrics = [mean]
    assert chain.metrics == chain._metrics == [mean]


def test_layers_say_under_keras_s_names_whether_their_call_takes_a_mask_or_the_flag():
    takes = [(each._call_has_mask_arg, each._call_has_training_arg) for each in (layers.LSTM(1), layers.Dropout(0.5))]
    assert takes == [(True, True), (False, True)] and not layers.Flatten()._call_has_training_arg
