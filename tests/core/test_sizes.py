"""Inference of shapes where a body branches on a size: what is declared holds for every call."""

import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.core.symbolic import KerasTensor, infer


def loop(x):
    h = x[:, 0]
    for t in range(1, x.shape[1]):
        h = h + x[:, t]
    return h


def causal(x):
    return jnp.asarray(np.tril(np.ones((x.shape[1], x.shape[1]), "float32"))) @ x


# A body, the shape it is inferred for, and what must be declared.
BODIES = {
    "at most 100": (lambda x: x[:, :100] if x.shape[1] > 100 else x, (None, None, 3), (None, None, 3)),
    "at most 50": (lambda x: x[:, : min(x.shape[1], 50)], (None, None, 3), (None, None, 3)),
    "at most 1000": (lambda x: x[:, : min(x.shape[1], 1000)], (None, None, 3), (None, None, 3)),
    "at least 7": (lambda x: jnp.zeros((max(x.shape[1], 7), 2)), (None, None), (None, 2)),
    "one sample": (lambda x: x[:, :5] if x.shape[0] == 1 else x[:, :3], (None, 8), (None, None)),
    "not one sample": (lambda x: x[:, :3] if x.shape[0] != 1 else x[:, :5], (None, 8), (None, None)),
    "a certain size": (lambda x: jnp.ones(5 if x.shape[1] == 17 else 6), (None, None, 2), (None,)),
    "one of two": (lambda x: jnp.ones(5 if x.shape[1] in (4, 9) else 6), (None, None, 2), (None,)),
    "a whole shape": (lambda x: jnp.ones(5 if x.shape == (4, 9) else 6), (None, 9), (6,)),
    "even": (lambda x: jnp.ones(5 if x.shape[1] % 2 == 0 else 6), (None, None), (None,)),
    "odd": (lambda x: jnp.ones(5 if x.shape[1] % 2 else 6), (None, None), (None,)),
    "large batch": (lambda x: jnp.ones(5 if x.shape[0] > 64 else 6), (None, 3), (None,)),
    "a loop": (loop, (None, None, 3), (None, 3)),
    "NumPy": (causal, (None, None, 3), (None, None, 3)),
    "a long axis of its own": (lambda x: jnp.ones(int(x.shape[1]) - int(x.shape[0]) + 10000), (None, None), (None,)),
    "a fixed size": (lambda x: x[:, :, : 2 if x.shape[1] > 0 else 1], (None, None, 3), (None, None, 2)),
    "one time": (lambda x: x[:, : 2 if x.shape[1] > 1 else 1], (None, None, 3), (None, None, 3)),
    "blocks": (lambda x: x.reshape(int(x.shape[0]) // 2, 2, -1), (None, 3), (None, 2, 3)),
    "large blocks": (lambda x: x.reshape(int(x.shape[0]) // 64, 64, -1), (None, 3), (None, 64, 3)),
    "square": (lambda x: x + jnp.swapaxes(x, 1, 2), (None, None, None, 2), (None, None, None, 2)),
}
REAL = ((1, 1), (1, 9), (2, 4), (4, 9), (3, 17), (64, 64), (70, 130), (128, 3), (5, 1200))


@pytest.mark.parametrize("name", [n for n in BODIES if n != "a whole shape"])
def test_a_declared_size_is_that_of_every_call(name):
    body, shape, expected = BODIES[name]
    declared = infer(body, (KerasTensor(shape),)).shape
    assert declared == expected
    for sizes in REAL:
        filled = tuple(sizes[min(axis, 1)] if d is None else d for axis, d in enumerate(shape))
        try:
            real = body(jnp.zeros(filled)).shape
        except (TypeError, ValueError, ZeroDivisionError):
            continue  # not a size for this body
        assert all(d in (None, n) for d, n in zip(declared, real, strict=True)), filled


def counted(body):
    calls = []

    class Body(layers.Layer):
        def call(self, x):
            calls.append(x.shape)
            return body(x)

    return Body(), calls


def test_a_body_that_asks_for_no_number_runs_once():
    layer, calls = counted(lambda x: jnp.concatenate([x * 2, x[:, :1]], axis=1))
    assert layer(lamina.Input((None, 3))).shape == (None, None, 3)
    assert len(calls) == 1
    layer(lamina.Input(batch_shape=(2, 5, 3)))
    assert len(calls) == 2


def test_batch_and_time_differ_in_each_try():
    layer, calls = counted(lambda x: x[:, : int(x.shape[1])])
    layer(lamina.Input((None, 3)))
    tried = [shape for shape in calls if all(isinstance(n, int) for n in shape)]
    assert len({a - b for a, b, _ in tried}) > 2 and len({a / b for a, b, _ in tried}) > 2


def test_a_loop_over_a_size_is_not_made_thousands_of_steps_long():
    layer, calls = counted(loop)
    assert layer(lamina.Input((None, 3))).shape == (None, 3)
    assert max(shape[1] for shape in calls if isinstance(shape[1], int)) < 300


@pytest.mark.parametrize("shape", [(None, 3), (None, None, 3)])
def test_a_mistake_is_told_once_in_the_sizes_of_the_user(shape):
    def wrong(x):
        return x + jnp.ones(4)

    with pytest.raises(ValueError) as caught:
        infer(wrong, (KerasTensor(shape),))
    assert str(shape) in str(caught.value)
    assert "axis_" not in str(caught.value) and caught.value.__suppress_context__


def test_a_mistake_while_a_layer_is_built_is_told():
    class Wrong(layers.Layer):
        def call(self, x):
            return x / jnp.mean(x) + jnp.ones(4)

    with pytest.raises(ValueError, match=r"\(None, 3\)"):
        lamina.Sequential([lamina.Input((3,)), Wrong()])


def test_a_mistake_behind_a_question_of_size_is_told():
    def wrong(x):
        for _ in range(x.shape[1]):
            x = x + 1
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        infer(wrong, (KerasTensor((None, None)),))


STATE = np.ones((7, 3), "float32")
BESIDE = {  # what stands beside an unknown number of samples, and what must be declared
    "an op": (lambda x: lamina.ops.add(x[:, 0], STATE), (7, 3)),
    "an operator": (lambda x: x * STATE[:, None], (7, None, 3)),
    "pairs of samples": (lambda x: lamina.ops.matmul(x, np.ones((7, 3, 2), "float32")), (7, None, 2)),
    "a layer": (lambda x: layers.Concatenate()([x[:, 0], STATE]), (7, 6)),
    "a state": (lambda x: layers.GRU(3)(x, initial_state=STATE), (7, 3)),
    "a tensor": (lambda x: layers.Add()([x[:, 0], lamina.Input(batch_shape=(7, 3))]), (7, 3)),
}


@pytest.mark.parametrize("name", BESIDE)
def test_an_array_for_so_many_samples_says_how_many_there_are(name):
    use, shape = BESIDE[name]
    inputs = lamina.Input((None, 3))
    outputs = use(inputs)
    assert outputs.shape == shape
    if name != "a tensor":
        model = lamina.Model(inputs, outputs)
        for each in (model, lamina.Model.from_config(model.get_config())):
            assert each(np.ones((7, 4, 3), "float32")).shape == tuple(n or 4 for n in shape)


@pytest.mark.parametrize("op", ["add", "divide", "maximum", "logical_and", "where"])
def test_tensors_that_say_sizes_of_each_other_say_all(op):
    x, y = KerasTensor((None, 3)), KerasTensor((2, None))
    more = [KerasTensor((None, None), "bool")] if op == "where" else []
    assert getattr(lamina.ops, op)(*more, x, y).shape == (2, 3)


def built(layer):
    layer.build((None, 7, 5))
    return layer


FEATURES = {  # what takes 5 features of an unknown number, and the shape that comes of (batch, 7, features)
    "a product": (lambda x: lamina.ops.matmul(x, KerasTensor((5, 4))), (None, 7, 4)),
    "a sum of products": (lambda x: lamina.ops.einsum("abc,cd->abd", x, np.ones((5, 4), "float32")), (None, 7, 4)),
    "a bias": (lambda x: lamina.ops.add(x, KerasTensor((5,))), (None, 7, 5)),
    "a convolution": (lambda x: lamina.ops.conv(x, KerasTensor((3, 5, 4))), (None, 5, 4)),
    "Dense": (built(layers.Dense(2)), (None, 7, 2)),
    "Conv1D": (built(layers.Conv1D(2, 3)), (None, 5, 2)),
    "BatchNormalization": (built(layers.BatchNormalization()), (None, 7, 5)),
    "LSTM": (built(layers.LSTM(2)), (None, 2)),
}


@pytest.mark.parametrize("name", FEATURES)
def test_weights_for_so_many_features_say_how_many_there_are(name):
    use, shape = FEATURES[name]
    inputs = lamina.Input((7, None))
    outputs = use(inputs)
    assert outputs.shape == shape
    if isinstance(use, layers.Layer):
        assert lamina.Model(inputs, outputs)(np.ones((3, 7, 5), "float32")).shape == (3, *shape[1:])


def test_outputs_of_other_ranks_are_refused():
    with pytest.raises(ValueError, match="same structure and numbers of axes whatever the unknown sizes"):
        infer(lambda x: x if int(x.shape[1]) > 50 else x[0], (KerasTensor((None, None)),))


def test_nothing_numbers_and_structures_may_be_outputs():
    found = infer(lambda x: {"a": None, "b": (x.shape[0], 2.0), "c": [x > 0]}, (KerasTensor((None, 2)),))
    assert found["a"] is None and found["c"][0].dtype == "bool"
    assert [t.shape for t in found["b"]] == [(), ()]


def test_a_graph_runs_beside_an_output_that_is_nothing():
    class Two(layers.Layer):
        def call(self, x):
            return {"a": None, "b": x + 1, "c": x * 2}

    inputs = lamina.Input((3,))
    model = lamina.Model(inputs, Two()(inputs)["c"])
    np.testing.assert_array_equal(model(np.ones((2, 3), "float32")), np.full((2, 3), 2.0))


def test_a_graph_called_on_another_size_is_inferred_anew():
    inputs = lamina.Input((None, 3))
    model = lamina.Model(inputs, [inputs * 2, layers.Flatten()(inputs)])
    other = model(lamina.Input((5, 3)))
    assert [t.shape for t in other] == [(None, 5, 3), (None, 15)]
    assert model.compute_output_shape((2, 5, 3)) == [(2, 5, 3), (2, 15)]
    function = lamina.models.functional.Function(inputs, [layers.Flatten()(inputs)])
    assert function.compute_output_spec(KerasTensor((2, 5, 3)))[0].shape == (2, 15)
    assert function.compute_output_spec(inputs)[0].shape == (None, None)


def test_a_graph_called_on_what_it_was_made_for_does_not_run():
    layer, calls = counted(lambda x: x * 2)
    inputs = lamina.Input((3,))
    model = lamina.Model(inputs, layer(inputs))
    assert model(lamina.Input((3,))).shape == (None, 3) and len(calls) == 1
    assert model(lamina.Input(batch_shape=(2, 3))).shape == (2, 3) and len(calls) == 2
