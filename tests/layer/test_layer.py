"""Layers: building, calling, flags, masks, losses, pure forms, and what is wrong."""

import re

import jax
import numpy as np
import pytest

import lamina
from lamina import dtype_policies, layers, ops
from lamina.core import masking

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


class Scale(layers.Layer):
    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="w")

    def call(self, inputs):
        return inputs * self.w


# Building


def test_a_layer_builds_itself_when_it_is_first_called():
    layer = Scale(name="scale")
    assert not layer.built and layer.weights == []
    layer(X)
    assert layer.built and layer.w.path == "scale/w" and layer.path == "scale"


def test_a_layer_without_weights_of_its_own_is_found_by_those_inside():
    inner = lamina.Sequential([Scale(name="scale")], name="inner")

    class Outer(lamina.Model):
        def __init__(self):
            super().__init__(name="outer")
            self.inner = inner

        def call(self, inputs):
            return self.inner(inputs)

    assert inner.path == "inner"
    outer = Outer()
    outer(X)
    paths = [outer.path, inner.path, inner.layers[0].path]
    assert paths == ["outer", "outer/inner", "outer/inner/scale"]


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (layers.Dense(3), [(None, 5)]), (layers.LSTM(3), [(None, 4, 5)]), (layers.BatchNormalization(), [(None, 5)]),
        (layers.MultiHeadAttention(2, 3), [(2, 4, 6), (2, 5, 6)]),
        (layers.TimeDistributed(layers.Dense(2)), [(2, 4, 5)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_a_shape_may_be_asked_for_before_the_layer_is_built(layer, shapes):
    before = layer.compute_output_shape(*shapes)
    assert not layer.built and layer.weights == []
    layer.build(*shapes)
    assert layer.weights and layer.compute_output_shape(*shapes) == before


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "int8_from_float32"])
def test_a_configuration_names_a_plain_policy(dtype):
    class Own(layers.Dense):
        def __init__(self, *args, dtype=None, **kwargs):
            assert isinstance(dtype, str) == dtype_policies.get(dtype).name.startswith("mixed")
            super().__init__(*args, dtype=dtype, **kwargs)

    assert Own.from_config(layers.Dense(2, dtype=dtype).get_config()).dtype_policy.name == dtype


def test_build_may_be_called_by_hand_and_from_a_configuration():
    layer = Scale()
    layer.build((None, 3))
    assert layer.built and layer.get_build_config() == {"input_shape": (None, 3)}
    twin = Scale()
    twin.build_from_config(layer.get_build_config())
    assert twin.w.shape == (3,)


def test_a_layer_is_built_once():
    class Counts(Scale):
        times = 0

        def build(self, input_shape):
            self.times += 1
            super().build(input_shape)

    layer = Counts()
    for _ in range(3):
        layer(X)
    assert layer.times == 1


def test_build_gets_the_shapes_that_it_asks_for():
    seen = {}

    class Two(layers.Layer):
        def build(self, query_shape, value_shape):
            seen.update(query=query_shape, value=value_shape)

        def call(self, query, value, extra=None):
            return query + value

    layer = Two()
    layer(X, value=2 * X, extra=X)
    assert seen == {"query": (4, 3), "value": (4, 3)}
    assert layer.get_build_config() == {"shapes_dict": {"query_shape": (4, 3), "value_shape": (4, 3)}}
    Two().build_from_config(layer.get_build_config())


def test_build_of_lists_and_dicts_gets_their_shapes():
    class Any(layers.Layer):
        def build(self, shape):
            self.seen = shape

        def call(self, x):
            return jax.tree.leaves(x)[0]

    for given, shapes in (([X, X[:, :1]], [(4, 3), (4, 1)]), ({"a": X}, {"a": (4, 3)})):
        layer = Any()
        layer(given)
        assert layer.seen == shapes


def test_children_build_in_their_parents_name():
    class Parent(layers.Layer):
        def __init__(self):
            super().__init__(name="parent")
            self.child = layers.Dense(2, name="child")

        def call(self, x):
            return self.child(x)

    layer = Parent()
    layer(X)
    assert [w.path for w in layer.weights] == ["parent/child/kernel", "parent/child/bias"]


def test_a_build_that_fails_leaves_nothing():
    class Fails(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(2,))
            if not self.name.endswith("ready"):
                raise RuntimeError("on purpose")

        def call(self, x):
            return x

    layer = Fails(name="not")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            layer(X)
    assert layer.weights == [] and not layer.built and not hasattr(layer, "w")
    layer.name = "ready"
    layer(X)
    assert len(layer.weights) == 1


def test_a_layer_may_be_built_inside_a_trace():
    layer = Scale()
    jax.jit(layer)(X)
    assert layer.built and isinstance(layer.w.numpy(), np.ndarray)


def test_add_weight_keeps_what_it_is_told():
    class Many(layers.Layer):
        def __init__(self):
            super().__init__()
            self.a = self.add_weight((2, 2), "ones", regularizer="l2", constraint="non_neg", name="a")
            self.b = self.add_weight(shape=3, dtype="int32", trainable=False)
            self.c = self.add_weight()

    layer = Many()
    assert [(w.shape, w.dtype, w.trainable) for w in (layer.a, layer.b, layer.c)] == [
        ((2, 2), "float32", True), ((3,), "int32", False), ((), "float32", True),
    ]  # fmt: skip
    assert layer.b.numpy().tolist() == [0, 0, 0]
    assert [float(loss) for loss in layer.losses] == pytest.approx([0.04])


# Calling


@pytest.mark.parametrize("given", [X, X.tolist(), X.astype("float64"), lamina.Variable(X), jax.numpy.asarray(X)])
def test_arrays_of_all_kinds_are_taken(given):
    if isinstance(given, list):
        given = np.array(given)
    outputs = layers.Dense(2, kernel_initializer="ones")(given)
    assert outputs.dtype == "float32"
    np.testing.assert_allclose(np.asarray(outputs)[:, 0], X.sum(1), rtol=1e-5)


def test_floats_are_cast_and_integers_are_not():
    class Dtype(layers.Layer):
        def call(self, x):
            return x.dtype.name

    assert [Dtype(dtype="float16")(X.astype(d)) for d in ("float64", "int8", "bool")] == ["float16", "int8", "bool"]
    assert Dtype(dtype="float16", autocast=False)(X) == "float32"


class Flag(layers.Layer):
    def call(self, x, training=None):
        return training


@pytest.mark.parametrize("flag", [True, False, None])
def test_the_training_flag_is_the_one_that_is_given(flag):
    assert Flag()(X, training=flag) is flag and Flag()(X, flag) is flag


@pytest.mark.parametrize("fixed", [True, False])
def test_any_arguments_are_no_training_flag(fixed):
    class Around(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(2)

        if fixed:

            def call(self, x, *args, **kwargs):
                return self.inner(x, **kwargs) + sum(args)
        else:

            def call(self, *args, **kwargs):
                return self.inner(args[0], **kwargs) + sum(args[1:])

    around, x = Around(), np.ones((3, 2), "float32")
    assert around(x, x).shape == (3, 2) and around(x, x, training=True).shape == (3, 2)
    a, b = lamina.Input((2,)), lamina.Input((2,))
    assert lamina.Model([a, b], around(a, b))([x, x]).shape == (3, 2)


def test_the_training_flag_is_inherited_unless_said_otherwise():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.flag = Flag()

        def call(self, x, training=False):
            return self.flag(x), self.flag(x, training=True)

    assert Outer()(X) == (False, True) and Outer()(X, training=True) == (True, True)


def test_a_call_may_take_several_arrays_and_other_arguments():
    class Mix(layers.Layer):
        def call(self, a, b, *, factor=1.0, names=()):
            return a + factor * b

    np.testing.assert_allclose(np.asarray(Mix()(X, b=X, factor=2.0, names=("n",))), 3 * X, rtol=1e-6)
    assert Mix()(lamina.Input((3,)), lamina.Input((3,)), factor=2.0).shape == (None, 3)


@pytest.mark.parametrize("names", [("query", "key"), ("key", "query")])
def test_the_first_input_is_that_of_the_signature_however_arguments_are_named(names):
    class First(layers.Layer):
        input_spec = layers.InputSpec(shape=(None, 3))

        def build(self, shape):
            self.seen = shape

        def call(self, query, key):
            return query

    for given in ({"query": X, "key": X[:, :2]}, {"query": lamina.Input((3,)), "key": lamina.Input((2,))}):
        layer = First()
        layer(**{name: given[name] for name in names})
        assert layer.seen[-1] == 3


def test_masks_go_in_by_name_and_ride_on():
    class Look(layers.Layer):
        supports_masking = True

        def call(self, query, value, query_mask=None, value_mask=None):
            self.seen = (query_mask, value_mask)
            return query

    tokens = np.array([[1, 2, 0]])
    embed = layers.Embedding(5, 2, mask_zero=True)
    x = embed(tokens)
    layer = Look()
    out = layer(x, x * 1.0)
    np.testing.assert_array_equal(np.asarray(layer.seen[0]), tokens != 0)
    assert layer.seen[1] is None  # plain arithmetic of arrays carries no mask
    np.testing.assert_array_equal(np.asarray(masking.get_mask(out)), tokens != 0)
    layer(x, ops.multiply(x, 1.0))
    np.testing.assert_array_equal(np.asarray(layer.seen[1]), tokens != 0)


def test_a_mask_that_is_given_wins():
    class Look(layers.Layer):
        supports_masking = True

        def call(self, x, mask=None):
            return mask

    x = layers.Embedding(5, 2, mask_zero=True)(np.array([[1, 0]]))
    given = np.array([[False, True]])
    np.testing.assert_array_equal(np.asarray(Look()(x, mask=given)), given)


def test_shapes_and_masks_of_outputs_may_be_asked_for():
    layer = Scale()
    assert layer.compute_output_shape((None, 3)) == (None, 3)
    assert layer.compute_output_spec(lamina.Input((3,))).shape == (None, 3)
    assert layers.Concatenate().compute_output_shape([(None, 2), (None, 3)]) == (None, 5)


# Losses


class Costs(layers.Layer):
    def call(self, x):
        self.add_loss(ops.sum(x))
        return x


def test_losses_are_those_of_the_last_call():
    layer = Costs()
    layer(X)
    layer(2 * X)
    assert [float(loss) for loss in layer.losses] == pytest.approx([2 * X.sum()], rel=1e-5)


def test_losses_of_children_and_weights_come_along():
    class Parent(layers.Layer):
        def __init__(self):
            super().__init__()
            self.costs, self.dense = (
                Costs(),
                layers.Dense(2, "relu", activity_regularizer="l1", kernel_regularizer="l2"),
            )

        def call(self, x):
            return self.dense(self.costs(x))

    layer = Parent()
    outputs = np.asarray(layer(X))
    expected = [X.sum(), 0.01 * outputs.sum() / 4, 0.01 * (layer.dense.kernel.numpy() ** 2).sum()]
    assert sorted(float(loss) for loss in layer.losses) == pytest.approx(sorted(expected), rel=1e-4)


def test_losses_inside_a_trace_do_not_leak():
    layer = Costs()
    layer.build((None, 3))
    _, _, losses = jax.jit(lambda x: layer.stateless_call([], [], x, return_losses=True))(X)
    assert [float(loss) for loss in losses] == pytest.approx([X.sum()], rel=1e-5)
    assert layer.losses == []


def test_activity_of_a_single_number_is_regularized():
    class Total(layers.Layer):
        def call(self, x):
            return ops.sum(ops.abs(x))

    layer = Total(activity_regularizer=lamina.regularizers.L1(0.5))
    layer(X)
    assert float(layer.losses[0]) == pytest.approx(0.5 * np.abs(X).sum(), rel=1e-5)


def test_activity_of_no_rows_costs_nothing():
    layer = layers.Activation("relu", activity_regularizer="l2")
    layer(np.zeros((0, 3), "float32"))
    assert [float(loss) for loss in layer.losses] == [0.0]


# Pure forms and remat


def test_stateless_call_is_pure():
    layer = layers.BatchNormalization()
    layer(X)
    before = layer.get_weights()
    outputs, after = layer.stateless_call(layer.trainable_variables, layer.non_trainable_variables, X, training=True)
    assert outputs.shape == X.shape and len(after) == 2
    assert any(np.any(a != b.numpy()) for a, b in zip(after, layer.non_trainable_variables))
    for a, b in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_stateless_call_counts_its_values():
    layer = Scale(name="scale")
    layer(X)
    with pytest.raises(ValueError, match='Scale "scale": must get 1 trainable_variables, got 0'):
        layer.stateless_call([], [], X)


# What is wrong


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (
            lambda: layers.Dense(2, name="d")(X[0]),
            ValueError,
            'Dense "d": the input must have at least 2 axes, got shape (3,); '
            "if that is one sample, add a batch axis: x[None].",
        ),
        (
            lambda: layers.Conv2D(2, 3, name="stem")(X),
            ValueError,
            'Conv2D "stem": the input must have 4 axes, got shape (4, 3).',
        ),
        (
            lambda: layers.Dense(2, name="d")(lamina.Input((None,))),
            ValueError,
            'Dense "d": axis -1 must be an axis of known size, got (None, None).',
        ),
        (lambda: layers.Layer(name="l")(X), NotImplementedError, 'Layer "l": a subclass must define call.'),
        (
            lambda: layers.Layer(nmae="l"),
            ValueError,
            "Layer: must not be given unknown arguments, got nmae; did you mean name?",
        ),
        (
            lambda: layers.Layer(name="l").add_weight("kernel", (3, 4)),
            ValueError,
            "Layer \"l\": add_weight takes the shape first, got 'kernel'; pass a name as name=.",
        ),
        (
            lambda: layers.Layer(name="l").add_weight("kernel", shape=(3, 4)),
            ValueError,
            "Layer \"l\": add_weight takes the shape first, got 'kernel'; pass a name as name=.",
        ),
        (
            lambda: layers.Dense(2, trainable="no", name="d"),
            ValueError,
            "Dense \"d\": trainable must be True or False, got 'no'.",
        ),
        (
            lambda: layers.Dense(2, trainable=None, name="d"),
            ValueError,
            'Dense "d": trainable must be True or False, got None.',
        ),
        (
            lambda: layers.Dense(2, name="d").count_params(),
            ValueError,
            'Dense "d": must be built to count its weights; call it on data or call build().',
        ),
        (
            lambda: layers.Layer(name="l").add_loss(X),
            ValueError,
            'Layer "l": add_loss must get scalars, got shape (4, 3).',
        ),
    ],
)
def test_errors(act, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        act()


def test_a_width_that_changed_is_named_with_both_shapes():
    layer = layers.Dense(2, name="d")
    layer(X)
    before = layer.get_weights()
    message = 'Dense "d": the input must have size 3 on axis -1, got shape (4, 2); it was built for (4, 3).'
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer(X[:, :2])
    for a, b in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_layer_without_super_init_says_so():
    class Forgets(layers.Layer):
        def __init__(self):
            self.size = 3

        def build(self, shape):
            self.w = self.add_weight(shape=(3,))

        def call(self, x):
            return x

    for act in (lambda: Forgets()(X), lambda: Forgets().build((None, 3)), lambda: Forgets()(lamina.Input((3,)))):
        with pytest.raises(RuntimeError, match=r"^Forgets: __init__ must call super\(\).__init__\(\)"):
            act()


def test_a_layer_that_cannot_be_built_yet_says_why():
    class Needs(layers.Layer):
        def build(self, query_shape, value_shape):
            self.w = self.add_weight(shape=(value_shape[-1],))

        def call(self, query, value=None):
            return query

    with pytest.raises(
        ValueError, match='Needs "needs": build takes query_shape, value_shape; the call gave arrays for query'
    ):
        Needs(name="needs")(X)


@pytest.mark.parametrize("base", [layers.LayerNormalization, layers.UnitNormalization, layers.RMSNormalization])
def test_a_call_of_its_own_takes_other_inputs_than_that_of_the_class_above(base):
    class OfFirst(base):
        def build(self, input_shape):
            super().build(input_shape[0])

        def call(self, inputs):
            return super().call(inputs[0])

    x, others = lamina.Input((3,)), lamina.Input((2,))
    model = lamina.Model([x, others], OfFirst()([x, others]))
    np.testing.assert_array_equal(model([X, X[:, :2]]), base()(X))
    with pytest.raises(ValueError, match="must get one array, got a list"):
        base()([X, X])


# An own compute_output_shape


class Told(layers.Layer):
    """The first `n` columns, which only the layer knows to be there."""

    def __init__(self, n, **kwargs):
        super().__init__(**kwargs)
        self.n = n

    def call(self, inputs):
        return inputs[:, : self.n]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.n)


def test_an_own_compute_output_shape_tells_what_evaluation_leaves_open():
    outputs = Told(3)(lamina.Input((None,), dtype="int32"))
    assert (outputs.shape, outputs.dtype) == ((None, 3), "int32")
    assert layers.Dense(2)(Told(3)(lamina.Input((None,)))).shape == (None, 2)


def test_an_own_compute_output_shape_tells_all_of_a_body_that_needs_values():
    class Host(Told):
        def call(self, inputs):
            return np.asarray(inputs)[:, : self.n]

    outputs = Host(3)(lamina.Input((5,)))
    assert (outputs.shape, outputs.dtype) == ((None, 3), "float32")


def test_an_own_compute_output_shape_does_not_hide_what_goes_wrong():
    class Wrong(Told):
        def call(self, inputs):
            return ops.matmul(inputs, ops.ones((7, 2)))

    with pytest.raises(TypeError, match="contracting"):
        Wrong(3)(lamina.Input((5,)))


def test_an_own_compute_output_shape_may_ask_the_one_above():
    class Above(layers.Layer):
        def call(self, first, second):
            return first, second

        def compute_output_shape(self, first_shape, second_shape):
            return super().compute_output_shape(first_shape, second_shape)

    first, second = Above()(lamina.Input((3,)), lamina.Input((4,)))
    assert (first.shape, second.shape) == ((None, 3), (None, 4))
    assert Above().compute_output_shape((1, 3), (1, 4)) == ((1, 3), (1, 4))


def test_a_second_build_makes_no_second_weights():
    layer = Scale(name="s")
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r'^Scale "s": build must make weights once'):
        layer.build((None, 3))
    assert len(layer.weights) == 1


def test_parts_that_are_told_to_the_tracker_of_keras_are_parts():
    """As packages do for parts in containers of their own."""

    class Heads(layers.Layer):
        def build(self, input_shape):
            self.heads = {"a": self._tracker.track(layers.Dense(2))}
            self._tracker.unlock()
            self.late = layers.Dense(3)
            self._tracker.lock()

        def call(self, x):
            return self.heads["a"](x), self.late(x)

    heads = Heads()
    heads(np.ones((1, 2), "float32"))
    assert len(heads.trainable_variables) == 4
