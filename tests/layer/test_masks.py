"""Masks: who is asked for one, who passes one on, and that none is lost or wrong in silence."""

import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers, ops
from lamina.core import masking
from tests.laws.descriptors import ROWS

TOKENS = np.array([[1, 2, 0, 0], [3, 0, 0, 0]], "int32")
MASK = TOKENS != 0
X = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")


def embedded():
    return layers.Embedding(5, 3, mask_zero=True)(TOKENS)


def mask_of(x):
    return masking.get_mask(x)


# Who is asked ---------------------------------------------------------------------------------------------------------


class OwnEmbedding(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = layers.Embedding(5, 3)

    def call(self, inputs):
        return self.table(inputs)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


class OwnMasking(layers.Layer):
    def call(self, inputs):
        return inputs * 1.0

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, 0.0), axis=-1)


class Around(layers.Wrapper):
    def call(self, inputs):
        return self.layer(inputs)


class Inside(lamina.Model):
    def __init__(self, first):
        super().__init__()
        self.first, self.last = first, layers.LSTM(2, return_sequences=True)

    def call(self, inputs):
        return self.last(self.first(inputs))


def functional(first, shape, dtype):
    inputs = lamina.Input(shape, dtype=dtype)
    return lamina.Model(inputs, layers.LSTM(2, return_sequences=True)(first(inputs)))


ONES = np.where(MASK[..., None], np.ones((2, 4, 3), "float32"), 0)
MAKERS = {
    "own embedding": (OwnEmbedding, TOKENS),
    "own masking": (OwnMasking, ONES),
    "wrapper": (lambda: Around(OwnEmbedding()), TOKENS),
    "embedding": (lambda: layers.Embedding(5, 3, mask_zero=True), TOKENS),
    "masking": (layers.Masking, ONES),
    "lambda": (lambda: layers.Lambda(lambda x: x, mask=lambda x, mask: ops.any(x != 0, axis=-1)), ONES),
}
MODELS = {
    "alone": lambda first, data: first,
    "Sequential": lambda first, data: lamina.Sequential([first, layers.LSTM(2, return_sequences=True)]),
    "functional": lambda first, data: functional(first, data.shape[1:], data.dtype.name),
    "subclass": lambda first, data: Inside(first),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_class_with_its_own_compute_mask_is_asked(maker, model):
    make, data = MAKERS[maker]
    np.testing.assert_array_equal(mask_of(MODELS[model](make(), data)(data)), MASK)


def test_a_mask_of_ones_own_is_asked_for_with_none_for_each_input():
    asked = []

    class Own(layers.Layer):
        def call(self, inputs):
            return inputs[0]

        def compute_mask(self, inputs, previous):
            asked.append(previous)

    Own()([X, X])
    Own()(X)
    assert asked == [[None, None], None]


@pytest.mark.parametrize(
    ("bases", "attributes", "expected"),
    [
        ((layers.Layer,), {}, False),
        ((layers.Layer,), {"compute_mask": lambda self, inputs, mask: mask}, True),
        ((layers.Layer,), {"compute_mask": lambda self, inputs, mask: mask, "supports_masking": False}, False),
        ((layers.Layer,), {"supports_masking": True}, True),
        ((OwnMasking,), {}, True),
        ((OwnMasking,), {"supports_masking": False}, False),
        ((lamina.Model,), {}, False),
        ((lamina.Model,), {"compute_mask": lambda self, inputs, mask: mask}, True),
    ],
)
def test_a_class_claims_masks_by_an_own_compute_mask_or_by_word(bases, attributes, expected):
    assert type("Own", bases, attributes)().supports_masking is expected


def test_a_claim_in_init_counts():
    class Own(layers.Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = True

        def call(self, inputs):
            return inputs + 1

    np.testing.assert_array_equal(mask_of(Own()(embedded())), MASK)


# Who stops one --------------------------------------------------------------------------------------------------------


class Plain(layers.Layer):
    def call(self, inputs):
        return inputs * 2


@pytest.mark.parametrize(
    "make", [Plain, lambda **k: layers.Conv1D(2, 1, **k), lambda **k: layers.EinsumDense("abc,cd->abd", (4, 2), **k)]
)
def test_a_layer_that_claims_nothing_stops_a_mask_and_says_so(make):
    layer = make(name="stem")
    with pytest.warns(UserWarning, match=r'"stem": does not support masking.*supports_masking = True'):
        assert mask_of(layer(embedded())) is None
    layer.supports_masking = True
    np.testing.assert_array_equal(mask_of(layer(embedded())), MASK)


def test_what_a_program_gives_for_mask_need_not_be_one_of_the_input(recwarn):
    class Windows(layers.Layer):
        """Attention within windows, as in Swin transformers: `mask` holds scores to add for each window."""

        def call(self, x, mask=None):
            return x + ops.mean(mask)

    Windows()(ops.ones((6, 4, 3)), mask=ops.zeros((2, 4, 4)))
    assert not recwarn.list


def test_a_layer_whose_inside_has_given_the_output_a_mask_stops_nothing():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(3)

        def call(self, inputs):
            return ops.add(inputs, self.inner(inputs))

    np.testing.assert_array_equal(mask_of(Block()(embedded())), MASK)


def test_a_graph_leaves_masks_to_its_layers():
    inputs = lamina.Input((None, 3))
    assert mask_of(lamina.Model(inputs, layers.LSTM(2)(inputs))(embedded())) is None
    np.testing.assert_array_equal(mask_of(lamina.Model(inputs, layers.Dense(2)(inputs))(embedded())), MASK)


def test_projections_of_attention_keep_the_mask_of_the_query():
    x = embedded()
    np.testing.assert_array_equal(mask_of(layers.MultiHeadAttention(2, 3)(x, x)), MASK)


# Lost ones ------------------------------------------------------------------------------------------------------------


class Residual(lamina.Model):
    """A block that adds on plain arrays, or with an op."""

    def __init__(self, user, add=lambda x, y: x + y):
        super().__init__()
        self.embedding, self.dense = layers.Embedding(5, 3, mask_zero=True), layers.Dense(3)
        self.user, self.combine = user, add

    def call(self, tokens):
        h = self.embedding(tokens)
        return self.user(self.combine(h, self.dense(h)))


class Twice(layers.Layer):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x, x)


USERS = {
    "LSTM": lambda: layers.LSTM(2),
    "GRU": lambda: layers.GRU(2, return_sequences=True),
    "RNN": lambda: layers.RNN(layers.LSTMCell(2)),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(2)),
    "GlobalAveragePooling1D": layers.GlobalAveragePooling1D,
    "MultiHeadAttention": lambda: Twice(layers.MultiHeadAttention(1, 2)),
}


@pytest.mark.parametrize("user", USERS)
def test_a_mask_that_plain_arrays_lose_is_told(user):
    with pytest.warns(UserWarning, match="gets no mask, but one was made.*ops.add.*layers.Add.*mask=") as told:
        Residual(USERS[user]())(TOKENS)
    assert len(told) == 1 and user in str(told[0].message)


@pytest.mark.parametrize("add", [ops.add, lambda x, y: layers.Add()([x, y])], ids=["op", "layer"])
@pytest.mark.parametrize("user", USERS)
def test_the_remedy_remedies(user, add):
    Residual(USERS[user](), add)(TOKENS)


def test_a_mask_that_is_passed_on_by_hand_is_not_lost():
    Residual(lambda x: layers.LSTM(2)(x, mask=MASK))(TOKENS)


@pytest.mark.parametrize(
    "user",
    [
        layers.Dense(2),
        layers.Softmax(),
        layers.TimeDistributed(layers.Dense(2)),
        layers.Lambda(lambda x: x),
        lambda x: layers.LSTM(2)(x[:, :3]),
        lambda x: layers.LSTM(2)(jnp.ones((5, 4, 3))),
    ],
)
def test_what_uses_no_mask_misses_none(user):
    Residual(user)(TOKENS)


def test_masks_of_another_call_are_not_missed():
    held = embedded()
    layers.LSTM(2)(X)
    assert mask_of(held) is not None


def test_a_graph_tells_of_a_lost_mask_too():
    inputs = lamina.Input((4,), dtype="int32")
    h = layers.Embedding(5, 3, mask_zero=True)(inputs)
    model = lamina.Model(inputs, layers.LSTM(2)(h @ np.ones((3, 3), "float32")))
    with pytest.warns(UserWarning, match=r'LSTM ".*": gets no mask'):
        model(TOKENS)


# Wrong ones -----------------------------------------------------------------------------------------------------------

LONG = np.ones((2, 5), bool)


@pytest.mark.parametrize("mask", [LONG, np.ones((3, 4), bool), np.ones(4, bool)], ids=lambda m: str(m.shape))
@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LSTM(2),
        lambda: layers.GRU(2, return_sequences=True),
        lambda: layers.SimpleRNN(2),
        lambda: layers.RNN(layers.LSTMCell(2)),
        lambda: layers.RNN([layers.LSTMCell(2), layers.GRUCell(2)]),
        lambda: layers.Bidirectional(layers.LSTM(2)),
        lambda: layers.TimeDistributed(layers.Dense(2)),
        layers.GlobalAveragePooling1D,
    ],
)
def test_a_mask_of_another_size_is_an_error(layer, mask):
    with pytest.raises(ValueError, match=r"mask must begin with the axes \(batch, time\) of its input, \(2, 4\), got"):
        layer()(X, mask=mask)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: layers.MultiHeadAttention(1, 2)(X, X, query_mask=LONG),
            r"query_mask must begin .* got shape \(2, 5\)",
        ),
        (
            lambda: layers.MultiHeadAttention(1, 2)(X, X, value_mask=LONG),
            r"value_mask must begin .* got shape \(2, 5\)",
        ),
        (lambda: layers.MultiHeadAttention(1, 2)(X, X, key_mask=LONG), r"key_mask must begin .* got shape \(2, 5\)"),
        (
            lambda: layers.MultiHeadAttention(1, 2)(X, X, attention_mask=np.ones((2, 4, 5), bool)),
            r"attention_mask must broadcast to \(4, 4\), got shape \(2, 4, 5\)",
        ),
        (lambda: layers.Attention()([X, X], mask=[None, LONG]), r"Attention.*mask must begin .* got shape \(2, 5\)"),
        (lambda: layers.AdditiveAttention()([X, X], mask=[LONG, None]), r"mask must begin .* got shape \(2, 5\)"),
        (lambda: layers.Softmax()(X, mask=LONG), r"Softmax .*mask must broadcast to \(2, 4, 3\), got shape \(2, 5\)"),
        (
            lambda: functional(layers.Dense(2), (4, 3), "float32")(X, mask=LONG),
            r'the mask of "keras_tensor.*|input.* must begin',
        ),
    ],
)
def test_relatives(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_mask_for_the_whole_batch_is_allowed():
    one = np.array([[True, True, False, False]])
    layer = layers.LSTM(2)
    np.testing.assert_allclose(layer(X, mask=one), layer(X, mask=np.repeat(one, 2, 0)), rtol=1e-6)


def test_a_mask_given_by_position_is_passed_on():
    np.testing.assert_array_equal(mask_of(layers.LSTM(2, return_sequences=True)(X, None, MASK)), MASK)


def test_masked_places_become_zero_whatever_they_hold():
    x = np.where(MASK[..., None], X, np.inf).astype("float32")
    out = layers.Masking(np.inf)(x)
    np.testing.assert_array_equal(out, np.where(MASK[..., None], X, 0))


@pytest.mark.parametrize("row", [row for row in ROWS if row.layer not in ("Embedding", "Masking", "Lambda")], ids=repr)
def test_layers_that_make_no_mask_are_not_asked_where_there_is_none(row, monkeypatch):
    layer = row.make()
    monkeypatch.setattr(type(layer), "compute_mask", lambda *_: pytest.fail("asked"))
    layer(*row.symbolic(), **row.call)


def test_a_mask_stays_where_the_input_is_cast():
    x = ops.array(X)
    masking.set_mask(x, ops.array(MASK))
    np.testing.assert_array_equal(mask_of(layers.Activation("relu", dtype="bfloat16")(x)), MASK)


MASKED = [
    layers.Add(), layers.Concatenate(1), layers.Dot(1), layers.Attention(), layers.Embedding(2, 2, mask_zero=True),
    layers.Masking(), layers.LSTM(2, return_sequences=True), layers.Lambda(abs, mask=lambda x, mask: mask),
    layers.Bidirectional(layers.GRU(2)), layers.GlobalAveragePooling1D(),
]  # fmt: skip


@pytest.mark.parametrize("layer", MASKED, ids=lambda layer: type(layer).__name__)
def test_the_mask_goes_to_compute_mask_by_its_name_in_keras(layer):
    lists = isinstance(layer, (layers.Add, layers.Concatenate, layers.Dot, layers.Attention))
    inputs, mask = ([X, X], [MASK, MASK]) if lists else (X, MASK)
    by_name, by_place = layer.compute_mask(inputs, mask=mask), layer.compute_mask(inputs, mask)
    np.testing.assert_array_equal(by_name, by_place)


class Shares(layers.Layer):
    """Needs a mask, as layers of programs may that are made for one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, mask=None):
        e = ops.exp(x) * ops.cast(mask, x.dtype)[..., None]
        return e / ops.sum(e, axis=1, keepdims=True)


class ToldShares(Shares):
    def compute_output_shape(self, input_shape):
        return input_shape


def stack(*more):
    return lamina.Sequential([layers.Embedding(9, 4, mask_zero=True), layers.Dense(3), *more, Shares(), ToldShares()])


def graph(*between, inside=False):
    inputs = lamina.Input((None,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    for layer in between:
        x = layer(x)
    if inside:
        part = lamina.Input((None, 4))
        x = lamina.Model(part, layers.Dense(4)(part))(x)
    return lamina.Model(inputs, ToldShares()(Shares()(x)))


@pytest.mark.parametrize(
    "make",
    [
        graph, stack, lambda: graph(layers.Dense(3), layers.Dropout(0.5)), lambda: graph(lambda x: ops.add(x, 2 * x)),
        lambda: graph(layers.LSTM(3, return_sequences=True)), lambda: graph(inside=True),
    ],
)  # fmt: skip
def test_a_layer_of_a_graph_may_need_a_mask(make):
    model = make()
    outputs = np.asarray(model(TOKENS))
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)
    assert not outputs[~MASK].any()
    np.testing.assert_allclose(model.predict(TOKENS, verbose=0), outputs, rtol=1e-5)
