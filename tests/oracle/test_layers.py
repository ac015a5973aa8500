"""The rows of the laws, beside the same layers of Keras: configurations, weights, outputs, gradients, masks."""

import functools
import inspect
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import lamina
from lamina.core.configurable import serialize
from tests.laws.descriptors import CHANGED_BY_TRAINING, ROWS

# Keras warns of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning"),
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning"),
    pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning"),
]


def over(rows):
    return pytest.mark.parametrize("row", rows, ids=repr)


# Values of another size than the keys are more than Keras can do on JAX.
BESIDE = [row for row in ROWS if "value_dim" not in row.arguments]
# What Keras forgets to write into a configuration.
FORGOTTEN = {"RandomGrayscale": "seed", "MaxNumBoundingBoxes": "fill_value"}
every = over(BESIDE)
SEED = 11


def called_symbolically(layer, tensors, row):
    """The call of a row that builds its layer, with weights of no meaning: Keras compiles a draw for each shape."""
    random = np.random.default_rng(5)

    def draw(shape, *_, **__):
        return 0.2 * random.normal(size=shape)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("uniform", "normal", "truncated_normal"):
            patch.setattr(f"keras.src.backend.jax.random.{name}", draw)
        patch.setattr(keras.initializers.Orthogonal, "__call__", lambda self, shape, dtype=None: draw(shape))
        return layer(*tensors, **row.call)


def symbols(library, row):
    return jax.tree.map(lambda x: library.KerasTensor(x.shape, str(x.dtype)), arrays(row))


@functools.cache
def pair(row):
    """Our layer and theirs, built by a symbolic call, with weights of their kinds."""
    keras.utils.set_random_seed(SEED)
    ours, theirs = row.make(name="it"), row.make(keras.layers, name="it")
    draw = np.random.default_rng(5)
    for layer, library in ((ours, lamina), (theirs, keras)):
        called_symbolically(layer, symbols(library, row), row)
    weights = [0.1 + np.abs(w) + 0.5 * draw.random(w.shape) if _is_spread(v) else w + 0.3 * draw.normal(size=w.shape)
               for v, w in zip(theirs.weights, theirs.get_weights())]  # fmt: skip
    for layer in (ours, theirs):
        layer.set_weights([w.astype("float32") for w in weights])
    getattr(theirs, "finalize_state", lambda: None)()  # Keras's Normalization has its weights once more
    return ours, theirs


def _is_spread(variable):
    """Whether a weight must stay above 0: variances and standard deviations."""
    return variable.name.endswith(("variance", "stddev"))


def arrays(row):
    return jax.tree.map(jnp.asarray, row.data())


def assert_close(ours, theirs, tolerance=1e-5, scale=None):
    """Close in parts of each value, or of `scale`: the largest value of each array if not given."""
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        other = np.asarray(other)
        assert str(mine.dtype) == str(other.dtype)
        np.testing.assert_allclose(
            mine, other, rtol=tolerance, atol=tolerance * (scale or np.abs(other).max(initial=0))
        )


def described(layer):
    return [(v.path, v.shape, str(v.dtype), v.trainable) for v in layer.weights]


@over([row for row in ROWS if row.layer != "Lambda"])
def test_configuration(row):
    ours = serialize(row.make(name="it"))
    theirs = keras.saving.serialize_keras_object(row.make(keras.layers, name="it"))
    ours["config"].pop(FORGOTTEN.get(row.layer), None)
    assert json.loads(json.dumps(ours)) == json.loads(json.dumps(theirs))


@over([row for row in BESIDE if row.layer != "Lambda"])
def test_configuration_once_built(row):
    ours, theirs = pair(row)
    ours, theirs = serialize(ours), keras.saving.serialize_keras_object(theirs)
    if row.layer in ("LayerNormalization", "RMSNormalization") and theirs["config"]["axis"] == [-1]:
        theirs["config"]["axis"] = -1  # Keras changes the argument when it builds
    ours["config"].pop(FORGOTTEN.get(row.layer), None)
    assert json.loads(json.dumps(ours)) == json.loads(json.dumps(theirs))


@every
def test_names_and_order_of_weights(row):
    ours, theirs = pair(row)
    assert described(ours) == described(theirs)


ON_HOST = ("Hashing", "IntegerLookup")  # which are TensorFlow's in Keras, and cannot be traced


@over([row for row in BESIDE if row.layer in ON_HOST])
def test_outputs_of_categories(row):
    ours, theirs = pair(row)
    for x in (np.asarray(*row.data()), np.asarray(*row.data(), np.int64) * 10**12, jnp.asarray(*row.data())):
        np.testing.assert_array_equal(ours(x), np.asarray(theirs(x)))


@over([row for row in BESIDE if row.layer not in ON_HOST])
def test_outputs_and_gradients(row):
    ours, theirs = pair(row)
    fn, state = lamina.functional(ours)
    fixed = [v.value for v in theirs.non_trainable_variables]

    def our_call(trainable, args):
        return fn(state._replace(trainable=dict(zip(state.trainable, trainable))), *args, **row.call)[0]

    def their_call(trainable, args):
        return theirs.stateless_call(trainable, fixed, *args, **row.call)[0]

    def gradients_of(call):
        def loss(trainable, args):
            outputs, draw = jax.tree.leaves(call(trainable, args)), np.random.default_rng(7)
            return sum((x * draw.normal(size=x.shape)).sum() for x in outputs), outputs

        return jax.grad(loss, (0,) if row.below else (0, 1), has_aux=True)

    @jax.jit  # what is the same in both is compiled once
    def both(*given):
        return gradients_of(our_call)(*given), gradients_of(their_call)(*given)

    trainable = [v.value for v in ours.trainable_variables]
    (our_gradients, our_outputs), (gradients, outputs) = both(trainable, arrays(row))
    assert_close(our_outputs, outputs)
    # Some are 0 but for rounding, such as those of the biases of keys: beside the others that is.
    scale = max(np.abs(g).max() for g in jax.tree.leaves(gradients)) if jax.tree.leaves(gradients) else None
    assert_close(our_gradients, gradients, 1e-4, scale)


# Keras declares for one of these the size of training at inference too, for the other one vector for all integers.
@over([row for row in BESIDE if row.layer != "RandomCrop" and str(row) != "Hashing(num_bins=5, output_mode=one_hot)"])
def test_symbolic_shapes(row):
    tensors = row.symbolic(row.free)
    theirs = jax.tree.map(lambda t: keras.KerasTensor(t.shape, t.dtype), tensors)
    ours = row.make()(*tensors, **row.call)
    outputs = called_symbolically(row.make(keras.layers), theirs, row)
    assert [(t.shape, t.dtype) for t in jax.tree.leaves(ours)] == [(t.shape, t.dtype) for t in jax.tree.leaves(outputs)]


# Keras computes with integers there, or cannot.
WITHOUT_INTEGERS = {"RMSNormalization", "STFTSpectrogram", "SpectralNormalization", "UnitNormalization"}


def takes_integers(row):
    """Whether Keras does: at inference many leave integers as they are."""
    if row.call == {"training": False}:
        return False
    convolves = row.layer.endswith("Transpose") or row.layer.startswith(("Depthwise", "Separable"))
    refuses = convolves or row.layer in WITHOUT_INTEGERS or {"normalize", "recurrent_dropout"} & row.arguments.keys()
    return not row.below and not refuses


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # Keras's least integer
@over([row for row in BESIDE if takes_integers(row)])
def test_integers(row):
    ours, theirs = pair(row)
    whole = jax.tree.map(lambda x: jnp.asarray(np.arange(x.size, dtype="int32").reshape(x.shape) % 9), row.data())
    ours, theirs = jax.jit(lambda whole: (ours(*whole, **row.call), theirs(*whole, **row.call)))(whole)
    if row.layer in ("GroupNormalization", "LayerNormalization"):  # Keras cuts off the fractions
        assert ours.dtype == theirs.dtype
    else:
        assert_close(ours, theirs)


def error(outputs, exact):
    """The largest difference."""
    pairs = zip(jax.tree.leaves(outputs), jax.tree.leaves(exact), strict=True)
    return max(float(np.abs(np.asarray(x, "float32") - np.asarray(y)).max()) for x, y in pairs)


# Keras's scan carries one dtype only.
ONLY_OURS = {"RNN(cell=[LSTMCell(units=3), GRUCell(units=2)], return_sequences=True, return_state=True)"}


@over([row for row in BESIDE if not row.below and not row.whole])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_far_from_zero_is_as_exact_as_in_keras(row, policy):
    draw = np.random.default_rng(3)
    far = jax.tree.map(lambda x: jnp.asarray(np.float32(1000 + draw.normal(size=x.shape))), row.data())
    exact = pair(row)[0](*far, **row.call)

    def wrong(library):
        layer = row.make(library.layers, name="it", dtype=policy)
        called_symbolically(layer, symbols(library, row), row)
        layer.set_weights(pair(row)[0].get_weights())
        return error(layer(*far, **row.call), exact)

    largest = max(float(np.abs(x).max()) for x in jax.tree.leaves(exact))
    few_units = 4 * float(jnp.finfo(policy.removeprefix("mixed_")).eps) * largest
    ours_alone = str(row) in ONLY_OURS or (row.layer, policy) == ("STFTSpectrogram", "mixed_bfloat16")
    ours = wrong(lamina)
    # Twice, since the last bits fall by chance: a statistic of rounded inputs is wrong by hundreds. NaN is as wrong
    # as can be.
    assert ours <= few_units or (not ours_alone and (ours <= 2 * (theirs := wrong(keras)) or np.isnan(theirs)))


@every
def test_initial_weights_follow_the_global_seed(row):
    keras.utils.set_random_seed(SEED)
    theirs = row.make(keras.layers)
    theirs(*symbols(keras, row), **row.call)
    lamina.utils.set_random_seed(SEED)
    ours = row.make()
    ours(*symbols(lamina, row), **row.call)
    assert_close(ours.get_weights(), theirs.get_weights(), 1e-6)


TRAINS = [row for row in ROWS if row.noisy or row.layer in {*CHANGED_BY_TRAINING, "Equalization"}]


@over([row for row in TRAINS if row.layer != "AugMix"])  # Keras chooses by Python's `random`, once a program
def test_training(row):
    ours, theirs = (row.make(library, name="it") for library in (lamina.layers, keras.layers))
    for layer in (ours, theirs):
        layer(*arrays(row), **row.call)
    for mine, other in zip(ours.variables, theirs.variables, strict=True):  # seeds too
        mine.assign(other.value)
    for _ in range(2):
        assert_close(*(layer(*arrays(row), **row.trained) for layer in (ours, theirs)))
    assert_close(ours.get_weights(), theirs.get_weights())


# Masks: which of them a layer obeys, and what it makes of them.
MASK = jnp.arange(6)[None, :] < jnp.array([[6], [4], [1], [3]])


def takes_mask(row):
    sequences = row.inputs == (4, 6, 5) and "data_format" not in row.arguments
    return sequences and "mask" in inspect.signature(getattr(keras.layers, row.layer).call).parameters


@over([row for row in ROWS if takes_mask(row) and row.layer not in ("Lambda", "Softmax")])
def test_outputs_of_masked_sequences(row):
    ours, theirs = pair(row)
    (x,) = arrays(row)
    assert_close(ours(x, mask=MASK), theirs(x, mask=MASK))


def test_softmax_of_masked_places():
    x, mask = np.random.default_rng(0).normal(size=(4, 6)).astype("float32"), np.asarray(MASK)
    assert_close(lamina.layers.Softmax()(x, mask=mask), keras.layers.Softmax()(x, mask=mask))


@pytest.mark.parametrize("bounds", [None, {"rmin": 0.9, "rmax": 1.1, "dmax": 0.1}])
def test_gradients_of_a_renormalized_batch(bounds):
    ours, theirs = (
        library.layers.BatchNormalization(renorm=True, renorm_clipping=bounds) for library in (lamina, keras)
    )
    x = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (16, 4)), "float32")

    def gradients(layer):
        layer.build(x.shape)
        state = [[v.value for v in group] for group in (layer.trainable_variables, layer.non_trainable_variables)]

        def loss(trainable, x):
            return (layer.stateless_call(trainable, state[1], x, training=True)[0] ** 3).sum()

        return jax.grad(loss, (0, 1))(state[0], x)

    assert_close(gradients(ours), gradients(theirs), 1e-4)


def test_moving_averages_of_masked_batches():
    (ours, theirs) = (library.layers.BatchNormalization(momentum=0.5) for library in (lamina, keras))
    x = np.random.default_rng(0).normal(2.0, 3.0, (4, 6, 5)).astype("float32")
    for layer in (ours, theirs):
        layer.build(x.shape)
    for _ in range(3):
        assert_close(ours(x, mask=MASK, training=True), theirs(x, mask=MASK, training=True))
        assert_close(ours.get_weights(), theirs.get_weights())


@pytest.mark.parametrize(
    "call",
    [
        {"mask": "both"},
        {"mask": "value"},
        {"mask": "both", "use_causal_mask": True},
        {"mask": "both", "return_attention_scores": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_attention_with_masks(name, call):
    ours, theirs = (getattr(library.layers, name)(use_scale=True) for library in (lamina, keras))
    draw = np.random.default_rng(0)
    inputs = [jnp.asarray(draw.normal(size=(4, n, 5)), "float32") for n in (3, 6)]
    for layer in (ours, theirs):
        layer(inputs)
    ours.set_weights(theirs.get_weights())
    call = {**call, "mask": [MASK[:, :3] if call["mask"] == "both" else None, MASK]}
    assert_close(ours(inputs, **call), theirs(inputs, **call))


ATTENTION_MASK = jnp.asarray(np.random.default_rng(1).random((4, 3, 6)) < 0.7).at[:, :, 0].set(True)


@pytest.mark.parametrize(
    "call",
    [
        {"value_mask": MASK},
        {"query_mask": MASK[:, :3], "value_mask": MASK},
        {"key_mask": MASK, "use_causal_mask": True},
        {"attention_mask": ATTENTION_MASK},
        {"attention_mask": ATTENTION_MASK, "value_mask": MASK, "return_attention_scores": True},
        {"attention_mask": ATTENTION_MASK.at[1, 2].set(False)},
        {"attention_mask": ATTENTION_MASK.at[1, 2].set(False), "return_attention_scores": True},
        {"return_attention_scores": True, "use_causal_mask": True},
    ],
    ids=lambda call: ", ".join(call),
)
@pytest.mark.parametrize("dropout", [0.0, 0.1])  # which in Keras says what a target has that may see no source
@pytest.mark.parametrize("name, sizes", [("MultiHeadAttention", (2, 3)), ("GroupQueryAttention", (3, 4, 2))])
def test_attention_of_several_heads_with_masks(name, sizes, dropout, call):
    ours, theirs = (getattr(library.layers, name)(*sizes, dropout=dropout) for library in (lamina, keras))
    draw = np.random.default_rng(0)
    query, value = (jnp.asarray(draw.normal(size=(4, n, 5)), "float32") for n in (3, 6))
    for layer in (ours, theirs):
        layer(query, value)
    ours.set_weights(theirs.get_weights())
    ours, theirs = ours(query, value, **call), theirs(query, value, **call)
    if "query_mask" in call and name == "MultiHeadAttention":  # Keras asks the query for it, and not the argument
        ours, theirs = ours[MASK[:, :3]], theirs[MASK[:, :3]]
    assert_close(ours, theirs)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_attention_of_masked_targets(dropout):
    def made(library):
        tokens = library.Input((5,), dtype="int32")
        h = library.layers.Embedding(9, 4, mask_zero=True)(tokens)
        return library.Model(tokens, library.layers.MultiHeadAttention(2, 3, dropout=dropout)(h, h))

    ours, theirs = made(lamina), made(keras)
    ours.set_weights(theirs.get_weights())
    tokens = np.array([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert_close(ours(tokens), theirs(tokens))


def test_attention_over_two_axes_with_a_target_that_sees_nothing():
    ours, theirs = (library.layers.MultiHeadAttention(2, 3, attention_axes=(1, 2)) for library in (lamina, keras))
    draw = np.random.default_rng(0)
    query, value = (jnp.asarray(draw.normal(size=(4, n, 2, 5)), "float32") for n in (3, 6))
    for layer in (ours, theirs):
        layer(query, value)
    ours.set_weights(theirs.get_weights())
    mask = jnp.ones((4, 3, 2, 6, 2), bool).at[1, 2].set(False)
    assert_close(ours(query, value, attention_mask=mask), theirs(query, value, attention_mask=mask))
