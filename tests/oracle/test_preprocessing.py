"""Layers of data pipelines beside Keras's on TensorFlow: values, configurations, vocabularies, files both ways."""

import functools
import itertools
import json
import warnings

import numpy as np
import pytest

import lamina
from lamina.layers.preprocessing import fingerprints
from lamina.layers.preprocessing.strings import Integers, strings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf

# Keras asks JAX for 64 bits, and its variables do not know all arguments of NumPy's conversion.
pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype", "ignore:__array__ implementation")
TEXTS = ["The cat, the DOG!", "a b  c\tÉé\n d'e", "", "x y", "a 中 文, a"]
WORDS = np.array([["a", "a", "b"], ["d", "m", "zz"], ["zz", "q", "a"]])
DRAW = np.random.default_rng(0)
NUMBERS = DRAW.normal(size=(6, 4)).astype("float32")


def beside(name, arguments, data, learn=None, **call):
    ours, theirs = (getattr(library.layers, name)(name="it", **arguments) for library in (lamina, keras))
    for layer in (ours, theirs) if learn is not None else ():
        layer.adapt(learn)
    for x in data:
        mine, other = np.asarray(ours(x, **call)), np.asarray(theirs(x, **call))
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
    config, other = (json.loads(json.dumps(layer.get_config())) for layer in (ours, theirs))
    assert config == other
    if hasattr(ours, "get_vocabulary"):
        assert ours.get_vocabulary() == list(theirs.get_vocabulary())
        assert ours.vocabulary_size() == theirs.vocabulary_size()
    return ours, theirs


def grid(**choices):
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


# Hashes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("salt", [None, [1, 2], [2**63 - 1, 5]])
def test_hashes_of_strings_of_all_lengths(salt):
    texts = [DRAW.bytes(length) for length in range(200) for _ in range(2)]
    ours = fingerprints.bins(strings(texts, "it"), 2**40, salt)
    theirs = tf.strings.to_hash_bucket_fast(texts, 2**40)
    if salt is not None:
        theirs = tf.strings.to_hash_bucket_strong(texts, 2**40, key=salt)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("salt", [None, [1, 2]])
@pytest.mark.parametrize("length", [0, 3, 5, 12, 20, 40, 64, 65, 700])
def test_hashes_of_a_few_strings_of_other_lengths_among_many(length, salt):
    most, others = [DRAW.bytes(length) for _ in range(60)], [b"", b"ab", b"of one word", b"longer" * 20]
    hashes = tf.strings.to_hash_bucket_fast
    if salt is not None:
        hashes = functools.partial(tf.strings.to_hash_bucket_strong, key=salt)
    for texts in (most + others, others + most):
        np.testing.assert_array_equal(fingerprints.bins(strings(texts, "it"), 2**40, salt), hashes(texts, 2**40))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int8", "uint16"])
@pytest.mark.parametrize("salt", [None, [3, 99]])
def test_hashes_of_integers_on_the_host_and_on_a_device(dtype, salt):
    limits = np.iinfo(dtype)
    sizes = [DRAW.integers(max(limits.min, -(10**k)), min(limits.max, 10**k), 50) for k in range(1, 11)]
    x = np.concatenate([[limits.min, limits.max, 0], *sizes]).astype(dtype)
    texts = tf.as_string(x.astype("int64"))
    for count in (3, 1000, 2**30 + 7):
        theirs = tf.strings.to_hash_bucket_fast(texts, count)
        if salt is not None:
            theirs = tf.strings.to_hash_bucket_strong(texts, count, key=salt)
        np.testing.assert_array_equal(fingerprints.bins(Integers(x), count, salt), theirs)
        np.testing.assert_array_equal(fingerprints.bins(lamina.ops.convert_to_tensor(x), count, salt), theirs)


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
@pytest.mark.parametrize("more", [{}, {"mask_value": "m"}, {"salt": 5}, {"salt": [1, 2], "mask_value": "m"}])
def test_hashing(mode, more):
    beside("Hashing", {"num_bins": 9, "output_mode": mode, **more}, [WORDS, WORDS[0], WORDS[:, :1]])


@pytest.mark.parametrize("mode", ["int", "one_hot"])
def test_hashed_crossing(mode):
    columns = [np.array(["a", "b", "c"]), np.array([1, -2, 2**40]), np.array(["x", "", "long enough to be cut"])]
    data = [columns, columns[:2], [x[:, None] for x in columns]]
    beside("HashedCrossing", {"num_bins": 50, "output_mode": mode}, data)


# Lookups ------------------------------------------------------------------------------------------------------------

LOOKUPS = [
    {}, {"mask_token": "m"}, {"num_oov_indices": 3}, {"num_oov_indices": 3, "salt": 7}, {"max_tokens": 4},
    {"max_tokens": 9, "pad_to_max_tokens": True},
]  # fmt: skip


@pytest.mark.parametrize("arguments", LOOKUPS, ids=str)
@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count", "tf_idf"])
def test_string_lookup(arguments, mode):
    data = [np.array([["a", "zz", "nope"], ["m", "d", "nein"]]), np.array([["a"], ["nope"]]), np.array(["a", "m"])]
    beside("StringLookup", {**arguments, "output_mode": mode}, data, WORDS)


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"mask_token": 9}, {"num_oov_indices": 3}, {"num_oov_indices": 3, "oov_method": "farmhash"},
        {"num_oov_indices": 3, "oov_method": "farmhash", "salt": 7}, {"output_mode": "multi_hot"},
    ],
    ids=str,
)  # fmt: skip
def test_integer_lookup(arguments):
    data = [np.array([[5, 7, 100, -4], [9, 2**33, 1, 0]])]
    beside("IntegerLookup", arguments, data, np.array([[5, 5, 7], [9, 9, 9], [1, 2, 3]]))


@pytest.mark.parametrize(
    "arguments",
    grid(
        standardize=["lower_and_strip_punctuation", "lower", "strip_punctuation", None],
        split=["whitespace", "character"],
        ngrams=[None, 2, (2, 3)],
        output_mode=["int", "multi_hot", "count", "tf_idf"],
    ),
    ids=str,
)
def test_text_vectorization(arguments):
    beside("TextVectorization", arguments, [TEXTS, TEXTS[0], np.array(TEXTS)[:, None]], TEXTS)


@pytest.mark.parametrize(
    "arguments", [{"output_sequence_length": n} for n in (0, 2, 9)] + [{"max_tokens": 4, "output_mode": "tf_idf"}]
)
def test_text_vectorization_of_a_size(arguments):
    batches = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2)
    beside("TextVectorization", arguments, [TEXTS], batches)


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot"])
def test_text_that_is_tokens(mode):
    column = np.array(TEXTS)[:, None]
    beside("TextVectorization", {"split": None, "output_mode": mode}, [column, column[:, 0]], TEXTS)
    if mode == "int":
        beside("TextVectorization", {"split": None, "output_sequence_length": 3}, [column], TEXTS)


# Numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"axis": None}, {"axis": (0, 1)}, {"axis": 0}, {"invert": True}], ids=str)
def test_normalization_that_learned(arguments):
    ours, theirs = beside("Normalization", arguments, [NUMBERS], NUMBERS * 3 + 1)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_a_number_alone_is_a_batch_or_a_sample(mode):
    beside("CategoryEncoding", {"num_tokens": 4, "output_mode": mode}, [np.array(2), np.array([2]), np.array([[2]])])
    beside("IntegerLookup", {"vocabulary": [3, 5], "output_mode": mode}, [np.array(5)])


@pytest.mark.parametrize("arguments", grid(output_mode=["int", "one_hot", "multi_hot", "count"], epsilon=[0.01, 0.3]))
def test_discretization_that_learned(arguments):
    values = DRAW.normal(size=(1000,))
    ours, theirs = beside("Discretization", {"num_bins": 4, **arguments}, [NUMBERS], values)
    assert ours.bin_boundaries == theirs.bin_boundaries
    beside("Discretization", {"num_bins": 7}, [NUMBERS], [DRAW.normal(size=(50, 3)) for _ in range(20)])


def test_counts_with_weights():
    x = DRAW.integers(0, 5, (6, 4))
    beside("CategoryEncoding", {"num_tokens": 6, "output_mode": "count"}, [x], count_weights=NUMBERS)


# Files --------------------------------------------------------------------------------------------------------------


def categories(library):
    words, numbers = library.Input((1,), dtype="string", name="words"), library.Input((1,), dtype="int64", name="ids")
    text = library.layers.TextVectorization(output_mode="tf_idf")
    lookup, ids = library.layers.StringLookup(vocabulary=["a", "b"]), library.layers.IntegerLookup()
    text.adapt(TEXTS)
    ids.adapt(np.array([[5], [7], [5]]))
    return library.Model([words, numbers], [text(words), lookup(words), ids(numbers)])


@pytest.mark.parametrize(("writer", "reader"), [(lamina, keras), (keras, lamina), (lamina, lamina)])
def test_vocabularies_in_files(writer, reader, tmp_path):
    model = categories(writer)
    model.save(tmp_path / "model.keras")
    again = reader.saving.load_model(tmp_path / "model.keras")
    x = np.array([["a b"], ["x"], ["a"]])
    for ours, theirs, data in zip(model.layers[-3:], again.layers[-3:], itertools.repeat(x)):
        twin = again.get_layer(ours.name)
        data = np.array([[7], [5], [1]]) if "integer" in ours.name else x
        np.testing.assert_allclose(ours(data), twin(data), rtol=1e-6)
        assert list(ours.get_vocabulary()) == list(twin.get_vocabulary())
        assert theirs.built


COLUMNS = {
    "a": np.array([1.0, 2.0, 3.0, 4.0]), "b": np.array(["x", "y", "x", "z"]), "c": np.array([3, 4, 3, 9]),
    "d": np.array([0.1, 0.5, 0.9, 0.3]), "e": np.array(["q", "r", "q", "s"]), "f": np.array([1.0, 0.0, 1.0, 0.5]),
}  # fmt: skip


def space(library):
    features = library.utils.FeatureSpace
    made = features(
        {
            "a": "float_normalized", "b": "string_categorical", "f": "float",
            "c": features.integer_categorical(num_oov_indices=2), "d": features.float_discretized(num_bins=3),
            "e": features.string_hashed(num_bins=5),
        },
        crosses=[("b", "c")], crossing_dim=7, name="space",
    )  # fmt: skip
    made.adapt(tf.data.Dataset.from_tensor_slices(COLUMNS))
    return made


def test_features():
    ours, theirs = space(lamina), space(keras)
    np.testing.assert_allclose(ours(COLUMNS), theirs(COLUMNS), rtol=1e-5)
    one = {name: values[0] for name, values in COLUMNS.items()}
    np.testing.assert_allclose(ours(one), theirs(one), rtol=1e-5)


@pytest.mark.parametrize(("writer", "reader"), [(lamina, keras), (keras, lamina), (lamina, lamina)])
def test_features_in_files(writer, reader, tmp_path):
    made = space(writer)
    made(COLUMNS)
    made.save(tmp_path / "space.keras")
    again = reader.saving.load_model(tmp_path / "space.keras")
    np.testing.assert_allclose(again(COLUMNS), made(COLUMNS), rtol=1e-6)
