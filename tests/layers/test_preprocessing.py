"""Layers of data pipelines: what holds for all of them that take strings, and what each does alone."""

import copy
import json
import pickle
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import lamina
from lamina import layers
from lamina.core.configurable import deserialize, serialize
from lamina.layers.preprocessing import fingerprints
from lamina.layers.preprocessing import strings as strings_module
from lamina.layers.preprocessing.strings import Integers, Strings, Table, decimals, of_each, strings

TEXTS = ["The cat, the DOG!", "a b  c\tÉé\n d'e", "", "x cat", "cat"]
WORDS = ["cat", "dog", "", "café", "a rather long word, of more than one part", "cat"]
VOCABULARY = ["cat", "dog", "the", "é"]
IDF = {"output_mode": "tf_idf", "idf_weights": [1.0, 2.0, 3.0, 4.0]}
ROWS = [
    ("StringLookup", {"vocabulary": VOCABULARY}, WORDS),
    ("StringLookup", {"vocabulary": VOCABULARY, "num_oov_indices": 3, "mask_token": ""}, WORDS),
    ("StringLookup", {"vocabulary": VOCABULARY, "output_mode": "one_hot"}, WORDS),
    ("StringLookup", {"vocabulary": VOCABULARY, **IDF}, [[word] for word in WORDS]),
    ("Hashing", {"num_bins": 7}, WORDS),
    ("Hashing", {"num_bins": 7, "salt": [1, 2], "mask_value": "cat"}, WORDS),
    ("TextVectorization", {"vocabulary": VOCABULARY, "output_sequence_length": 4}, TEXTS),
    ("TextVectorization", {"vocabulary": VOCABULARY, "split": "character", "output_sequence_length": 9}, TEXTS),
    ("TextVectorization", {"vocabulary": VOCABULARY, "ngrams": 2, "output_mode": "count"}, TEXTS),
    ("TextVectorization", {"vocabulary": VOCABULARY, **IDF}, TEXTS),
    ("TextVectorization", {"vocabulary": VOCABULARY, "standardize": None, "output_mode": "multi_hot"}, TEXTS),
]
every = pytest.mark.parametrize(("name", "arguments", "data"), ROWS, ids=lambda v: v if isinstance(v, str) else "")


def make(layer, arguments, **more):
    return getattr(layers, layer)(**arguments, **more)


# Laws ---------------------------------------------------------------------------------------------------------------


@every
def test_a_configuration_loses_nothing(name, arguments, data):
    layer = make(name, arguments, name="other")
    form = json.loads(json.dumps(serialize(layer)))
    twin = deserialize(form)
    assert json.loads(json.dumps(serialize(twin))) == form
    np.testing.assert_array_equal(twin(data), layer(data))


@every
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_computes_the_same(name, arguments, data, copied):
    layer = make(name, arguments)
    np.testing.assert_array_equal(copied(layer)(data), layer(data))


@every
def test_a_batch_is_its_samples(name, arguments, data):
    layer = make(name, arguments)
    whole = layer(data)
    for row, one in zip(whole, data):
        np.testing.assert_array_equal(layer([one])[0], row)


KINDS = {
    "object": lambda x: np.array(x, object),
    "U": np.array,
    "S": lambda x: np.char.encode(np.array(x), "utf-8"),
    "T": lambda x: np.array(x, np.dtypes.StringDType()),
    "column": lambda x: pd.Series(np.array(x).ravel().tolist()) if np.ndim(x) == 1 else pd.DataFrame(np.array(x)),
    "string": lambda x: pd.DataFrame(np.array(x)).astype("string") if np.ndim(x) > 1 else pd.Series(x, dtype="string"),
    "category": lambda x: pd.Series(x, dtype="category") if np.ndim(x) == 1 else np.array(x),
}


@every
@pytest.mark.parametrize("kind", KINDS)
def test_strings_of_any_kind_are_the_same(name, arguments, data, kind):
    layer = make(name, arguments)
    out = layer(KINDS[kind](data))
    assert isinstance(out, np.ndarray)
    np.testing.assert_array_equal(out, layer(data))


@every
def test_declared_shapes_and_dtypes_are_the_real_ones(name, arguments, data):
    layer = make(name, arguments)
    out, shape = layer(data), np.shape(data)
    told = layer(lamina.KerasTensor((None, *shape[1:]), "string"))
    assert (told.shape, told.dtype) == ((None, *out.shape[1:]), str(out.dtype))
    assert layer.compute_output_shape((None, *shape[1:])) == told.shape


@every
def test_tensors_of_tensorflow_come_out_as_such_also_in_pipelines(name, arguments, data):
    tf = pytest.importorskip("tensorflow")
    layer = make(name, arguments)
    expected = layer(data)
    eager = layer(tf.constant(data))
    assert tf.is_tensor(eager)
    np.testing.assert_array_equal(eager, expected)
    mapped = tf.data.Dataset.from_tensor_slices(data).batch(2).map(layer)
    assert mapped.element_spec.shape[1:] == expected.shape[1:]
    np.testing.assert_array_equal(np.concatenate(list(mapped.as_numpy_iterator())), expected)


def test_sparse_vectors_are_dense_in_pipelines_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    layer = layers.CategoryEncoding(3, sparse=True)
    (rows,) = tf.data.Dataset.from_tensors([[0, 2], [1, 1]]).map(layer)
    np.testing.assert_array_equal(rows, [[1, 0, 1], [0, 1, 0]])


@every
def test_workers_of_torch_run_it(name, arguments, data):
    data_of = pytest.importorskip("torch").utils.data
    layer = make(name, arguments)
    loader = data_of.DataLoader(Samples(layer, data), batch_size=2)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in loader]), layer(data))


class Samples:
    def __init__(self, layer, data):
        self.layer, self.data = layer, data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.layer([self.data[i]])[0]


@every
def test_strings_under_jit_are_an_error_that_says_so(name, arguments, data):
    layer = make(name, arguments)
    if name != "Hashing":  # which takes integers too
        with pytest.raises(ValueError, match=f'{name} ".*": the input must hold strings, got dtype int32; .* jit'):
            jax.jit(layer)(jnp.arange(3))
    with pytest.raises(ValueError, match=r"must hold strings, got (nan|None)"):
        layer(pd.Series([data[0] if isinstance(data[0], str) else "a", None], dtype=object))


# Strings as arrays --------------------------------------------------------------------------------------------------


def some_strings(count=3000):
    draw = np.random.default_rng(0)
    signs = np.array(list("ab \n\tÉ中!x,Z"))
    return ["".join(signs[draw.integers(0, len(signs), draw.integers(0, 30))]) for _ in range(count)]


@pytest.mark.parametrize("items", [["a", "b", "a"], list(map(np.str_, ["a", "b", "a"]))], ids=["str", "str_"])
@pytest.mark.parametrize(("name", "given"), [("StringLookup", {}), ("TextVectorization", {"split": None})])
def test_each_item_of_a_list_is_a_document(name, given, items):
    of_list, of_array = (getattr(layers, name)(output_mode="tf_idf", **given) for _ in range(2))
    of_list.adapt(items)
    of_array.adapt(np.array(items))
    np.testing.assert_array_equal(of_list(items[:1]), of_array(items[:1]))


@pytest.mark.parametrize("kind", ["list", "bytes", "object", "U", "S"])
def test_split_and_replaced_are_those_of_python(kind):
    items = [text.encode() for text in some_strings()]
    texts = [item.decode() for item in items]
    given = {
        "list": texts,
        "bytes": items,
        "object": np.array(texts, object),
        "U": np.array(texts),
        "S": np.array(items),
    }
    found = strings(given[kind], "it")
    assert found.tolist() == items
    words, counts = found.split()
    assert words.tolist() == [word for item in items for word in item.split()]
    assert counts.tolist() == [len(item.split()) for item in items]
    changed = found.replaced(bytes(range(256)).lower(), b"!,")
    assert changed.tolist() == [item.lower().translate(None, b"!,") for item in items]


def test_a_table_is_a_dict():
    words = strings(some_strings(), "it").split()[0]
    keys = list(dict.fromkeys(words.tolist()))[::2]
    known = {key: i for i, key in enumerate(keys)}
    assert Table(strings(keys, "it")).numbers(words).tolist() == [known.get(word, -1) for word in words.tolist()]


def test_a_vocabulary_of_special_tokens_alone():
    words = layers.StringLookup(vocabulary=["[UNK]"])
    assert words(np.array(["a", "[UNK]"])).tolist() == [0, 0]
    assert layers.IntegerLookup(vocabulary=[-1])(np.array([3, -1])).tolist() == [0, 0]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 24, 25, 40])
def test_a_byte_anywhere_makes_another_fingerprint(length):
    texts = ["a" * place + letter + "a" * (length - place - 1) for place in range(length) for letter in "bcdef"]
    for some in (texts, [*texts, *["b"] * 10 * len(texts)]):  # long ones are most, or few
        given = strings(some, "")
        own = given.fingerprints(given.heads())[: len(texts)]
        assert len(np.unique(own)) == len(texts)
        assert len(np.unique(own >> np.uint64(48))) > 0.8 * len(texts)  # the upper bits alone tell them apart, too


@pytest.mark.parametrize("mixed", [lambda self, heads: (self.lengths > 7).astype(np.uint64) * 5, None])
def test_strings_with_one_fingerprint_are_told_apart(monkeypatch, mixed):
    if mixed is not None:
        monkeypatch.setattr(Strings, "fingerprints", mixed)
    long = b"a head that many share, "
    keys = [b"a long word", b"other words", b"and a third", long + b"one", long + b"two", long + b"three", b"", b"\0"]
    texts = [keys[2], b"not a known", *keys[::-1], keys[0], long + b"four", long + b"on", b"\0\0", long + b"one\0"]
    table = {key: i for i, key in enumerate(keys)}
    given = strings(texts, "it")
    assert Table(strings(keys, "it")).numbers(given).tolist() == [table.get(text, -1) for text in texts]
    documents = np.arange(len(texts)) // 3
    counts = given.counts(documents)
    seen = {text: {int(d) for t, d in zip(texts, documents) if t == text} for text in texts}
    assert dict(zip(counts.tokens, zip(counts.times.tolist(), counts.documents.tolist()))) == {
        text: (texts.count(text), len(seen[text])) for text in texts
    }
    assert strings_module.UNKNOWN == -1


# Learning -----------------------------------------------------------------------------------------------------------


def stream_of(kind, data):
    tf = pytest.importorskip("tensorflow") if kind == "tf" else None
    array = np.array(data)
    batches = [array[at : at + 2] for at in range(0, len(array), 2)]
    made = {"list": lambda: data, "generator": lambda: iter(batches), "batches": lambda: batches}
    made |= {"targets": lambda: ((batch, batch) for batch in batches), "dataset": lambda: Batches(batches)}
    return tf.data.Dataset.from_tensor_slices(array).batch(2) if tf else made[kind]()


class Batches(lamina.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


ON_NUMBERS = [
    layers.Normalization(),
    layers.Normalization().adapt,
    layers.Discretization([0.0]),
    layers.Discretization(num_bins=3).adapt,
    layers.CategoryEncoding(4),
]


@pytest.mark.parametrize("use", ON_NUMBERS)
@pytest.mark.parametrize("given", [np.array(["a", "b"]), np.array([1.0, None]), {"a": 1}, None])
def test_layers_on_numbers_refuse_what_is_none(use, given):
    with pytest.raises(ValueError, match='": the input must hold numbers, got '):
        use(given)


@pytest.mark.parametrize("kind", ["list", "generator", "batches", "targets", "dataset", "tf"])
def test_adapt_takes_arrays_and_streams(kind):
    text, words, numbers = layers.TextVectorization(), layers.StringLookup(), layers.IntegerLookup()
    text.adapt(stream_of(kind, TEXTS))
    assert text.get_vocabulary()[:4] == ["", "[UNK]", "cat", "the"]
    words.adapt(stream_of(kind, WORDS))
    assert words.get_vocabulary()[:2] == ["[UNK]", "cat"]
    numbers.adapt(stream_of(kind, [[5], [7], [5]]))
    assert numbers.get_vocabulary() == [-1, 5, 7]
    normal = layers.Normalization()
    normal.adapt(stream_of(kind, [[1.0], [3.0], [5.0], [7.0]]))
    assert (normal.mean.item(), normal.variance.item()) == (4.0, 5.0)


def test_a_state_is_learned_part_by_part():
    whole, parts = layers.TextVectorization(output_mode="tf_idf"), layers.TextVectorization(output_mode="tf_idf")
    whole.adapt(TEXTS)
    parts.update_state(TEXTS[:2])
    parts.update_state(TEXTS[2:])
    parts.finalize_state()
    assert parts.get_vocabulary() == whole.get_vocabulary()
    np.testing.assert_array_equal(parts(TEXTS), whole(TEXTS))


def test_the_moments_of_parts_are_those_of_the_whole():
    x = np.random.default_rng(0).normal(1e4, 1.0, (1000, 3))
    layer = layers.Normalization()
    layer.adapt(x[at : at + 7] for at in range(0, 1008, 7))  # the last is empty
    np.testing.assert_allclose(layer.mean[0], x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(layer.variance[0], x.var(0), rtol=1e-4)


def test_half_floats_far_from_zero_keep_what_sets_them_apart():
    x = np.array([[1000.0], [1001.0]], "float32")
    layer = layers.Normalization(mean=1000.5, variance=0.25, axis=None, dtype="mixed_bfloat16")
    assert jnp.asarray(layer(x)).astype("float32").tolist() == [[-1.0], [1.0]]


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("shape", [(300, 3), (7, 3), (4, 64, 3), (0, 3), (3,)])
def test_rows_that_numpy_takes_many_at_once_are_normalized_each_by_its_feature(shape, invert):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    mean, variance = np.array([1.0, -2.0, 0.5], "float32"), np.array([4.0, 0.25, 1.0], "float32")
    layer = layers.Normalization(mean=mean, variance=variance, invert=invert)
    expected = x * np.sqrt(variance) + mean if invert else (x - mean) / np.sqrt(variance)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jax.jit(layer)(x), expected, rtol=1e-6, atol=1e-6)
    assert type(layer(x)) is np.ndarray and layer(x).shape == shape


def test_a_million_words_cost_nothing_to_look_at():
    start = time.perf_counter()
    layer = layers.StringLookup(vocabulary=[f"w{i}" for i in range(10**6)])
    built = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(100):
        assert layer.variables == []
    assert time.perf_counter() - start < 0.05 < 5 > built
    assert layer(["w999999", "no"]).tolist() == [10**6, 0]


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("StringLookup", {"max_tokens": 1}, "max_tokens must be an integer of at least 2, got 1"),
        ("StringLookup", {"pad_to_max_tokens": True}, "pad_to_max_tokens needs max_tokens"),
        ("StringLookup", {"vocabulary": ["a", "b", "a"]}, "must hold each token once, got .*a"),
        ("StringLookup", {"vocabulary": []}, "must hold at least one token"),
        ("StringLookup", {"vocabulary": ["a", ""], "mask_token": ""}, "must have its special tokens in front"),
        ("StringLookup", {"vocabulary": ["a", "b"], "max_tokens": 2}, "must fit max_tokens=2, got 3"),
        ("StringLookup", {"vocabulary": ["a"], "output_mode": "tf_idf"}, "needs idf_weights"),
        ("StringLookup", {"encoding": "latin-1"}, 'encoding must be "utf-8"'),
        ("StringLookup", {"invert": True, "output_mode": "count"}, 'invert needs output_mode="int"'),
        ("IntegerLookup", {"vocabulary": ["a"]}, "must hold integers"),
        ("IntegerLookup", {"salt": 3}, 'salt needs oov_method="farmhash"'),
        ("TextVectorization", {"ragged": True}, "ragged must be False; arrays of JAX are dense"),
        ("TextVectorization", {"sparse": True}, "sparse must be False"),
        ("TextVectorization", {"ngrams": 0}, "ngrams must be a positive integer or a tuple"),
        ("TextVectorization", {"split": "words"}, "split must be 'whitespace' or 'character', got 'words'"),
        ("TextVectorization", {"output_mode": "count", "output_sequence_length": 3}, 'needs output_mode="int"'),
        ("Hashing", {"num_bins": 0}, "num_bins must be a positive integer, got 0"),
        ("Hashing", {"num_bins": 3, "salt": [1]}, "salt must be an integer or two of them"),
        ("Hashing", {"num_bins": 3, "dtype": "float32"}, "dtype must be an integer one"),
        ("HashedCrossing", {"num_bins": 3, "output_mode": "count"}, "output_mode must be 'int' or 'one_hot'"),
        ("CategoryEncoding", {}, "num_tokens must be given"),
        ("Discretization", {}, "either bin_boundaries or num_bins must be given"),
        ("Discretization", {"bin_boundaries": [2.0, 1.0]}, "lowest first"),
        ("Normalization", {"mean": 1.0}, "mean and variance must be given together"),
        ("Normalization", {"mean": [1.0], "variance": [1.0, 2.0]}, "must have one shape"),
    ],
)
def test_arguments_outside_their_domain_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(name, arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_a_layer_that_has_not_learned_says_so(name):
    data = [1, 2] if name == "IntegerLookup" else ["a", "b"]
    with pytest.raises(ValueError, match=f'{name} ".*": vocabulary must be known .*; call adapt on data'):
        make(name, {})(data)
    with pytest.raises(ValueError, match=r"bin_boundaries must be known .*; call adapt on data"):
        layers.Discretization(num_bins=3)([1.0])
    with pytest.raises(ValueError, match=r"adapt must get at least one number, got none"):
        layers.Normalization().adapt([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be there to read"),
        (b"", "must hold a token a line, got an empty file"),
        (b"a\nb\na\n", "must hold each token once"),
        (b"a\n\xff\n", r"must hold UTF-8, got b'\\xff' in line 2"),
    ],
)
def test_a_vocabulary_file_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        layers.TextVectorization(vocabulary=str(path))
    assert "\n" not in str(caught.value)


def test_a_dict_of_columns_is_no_stream_of_its_keys():
    with pytest.raises(ValueError, match="must hold strings"):
        layers.StringLookup().adapt({"kind": ["cat", "dog"]})


def test_a_vocabulary_file_of_integers_holds_those_of_64_bits(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text(f"1\n{2**70}\n")
    with pytest.raises(ValueError, match=r"must hold integers, got .* in line 2"):
        layers.IntegerLookup(vocabulary=str(path))


def test_a_vocabulary_comes_from_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("cat\r\ndog\r\né\r\n".encode())
    assert layers.StringLookup(vocabulary=str(path)).get_vocabulary() == ["[UNK]", "cat", "dog", "é"]
    path.write_text("7\n5")
    assert layers.IntegerLookup(vocabulary=path)([5, 7, 9]).tolist() == [2, 1, 0]


def test_a_configuration_names_no_file_to_read():
    config = {**layers.StringLookup().get_config(), "vocabulary": "secrets.txt"}
    with pytest.raises(ValueError, match=r"must hold its vocabulary, got the file 'secrets\.txt'"):
        layers.StringLookup.from_config(config)


def test_unknown_tokens_are_errors_where_there_is_no_number_for_them():
    layer = layers.StringLookup(vocabulary=["a"], num_oov_indices=0)
    with pytest.raises(ValueError, match="all tokens must be in the vocabulary, got 'b'"):
        layer(["a", "b"])


def test_own_functions_standardize_and_split():
    layer = layers.TextVectorization(
        standardize=np.char.upper, split=lambda texts: [text.split("-") for text in texts], vocabulary=["A", "B"]
    )
    assert layer(["a-b", "b"]).tolist() == [[2, 3], [3, 0]]
    tf = pytest.importorskip("tensorflow")
    ragged = layers.TextVectorization(
        standardize="lower", split=lambda texts: tf.strings.split(texts, "-"), vocabulary=["a", "b"]
    )
    assert ragged(["a-b", "b"]).tolist() == [[2, 3], [3, 0]]


def test_numbers_become_tokens_again():
    words = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    assert words(np.array([[1, 2], [0, 9]])).tolist() == [["a", "b"], ["[UNK]", "[UNK]"]]
    numbers = layers.IntegerLookup(vocabulary=[2**40, 7], invert=True)
    assert numbers(np.array([1, 2, 0])).tolist() == [2**40, 7, -1]


def test_large_integers_are_looked_up_as_they_are():
    layer = layers.IntegerLookup(vocabulary=[2**40, 2**40 + 1])
    assert layer(np.array([2**40 + 1, 2**40, 1])).tolist() == [2, 1, 0]


def test_integers_as_the_strings_of_their_digits():
    values = [0, 9, 10, -1, -10, 2**31, 2**32, 10**18, 2**63 - 1, -(2**63)]
    powers = [sign * 10**n + step for n in range(19) for sign in (1, -1) for step in (-1, 0, 1)]
    many = np.arange(0, 10**8, 6007).tolist()  # more than a block
    for some in (values, values[:5], [], powers, many, [-value for value in many]):
        assert decimals(Integers(np.array(some, np.int64))).tolist() == [str(value).encode() for value in some]


@pytest.mark.parametrize("salt", [None, [1, 2]])
def test_the_hash_of_a_string_does_not_depend_on_those_beside_it(salt, monkeypatch):
    texts = [bytes(range(33, 33 + n % 7)) + b"x" * n for n in [*range(140), *range(60), 3000]]
    alone = [fingerprints.fingerprints(strings([text], ""), salt)[0] for text in texts]
    monkeypatch.setattr(fingerprints, "BLOCK", 2)
    monkeypatch.setattr(strings_module, "_PART", 11)
    np.testing.assert_array_equal(fingerprints.fingerprints(strings(texts, ""), salt), alone)
    bins = layers.Hashing(97, salt=salt)(np.array(texts, object))
    np.testing.assert_array_equal(bins, np.array(alone) % np.uint64(97))


def test_zeros_inside_strings_of_one_size_are_theirs():
    for values in (np.array(["a\0b", "", "abcd"]), np.array([b"a\0b", b"", b"abcd"]), np.array(["a", "bc"])):
        assert strings(values, "").tolist() == strings(values.tolist(), "").tolist()


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("mask", [None, -5])
def test_wide_integers_are_looked_up_as_in_a_dict(count, mask):
    draw = np.random.default_rng(0)
    vocabulary = [*range(2**50, 2**50 + 50), *(-(2**45) * np.arange(1, 90)).tolist(), *draw.integers(0, 2**62, 400)]
    layer = layers.IntegerLookup(vocabulary=vocabulary, num_oov_indices=count, mask_token=mask)
    first = mask is not None
    known = {int(token): number + first + count for number, token in enumerate(vocabulary)}
    tokens = draw.choice(vocabulary, 900)
    if count:
        tokens = np.concatenate([tokens, draw.integers(-(2**62), 2**62, 300), np.arange(2**50 - 9, 2**50 + 60)])
    if first:
        tokens, known[mask] = np.append(tokens, mask), 0
    wanted = [known.get(token, token % max(count, 1) + first) for token in tokens.tolist()]
    assert layer(tokens).tolist() == wanted


@pytest.mark.parametrize("values", [np.arange(-9, 9).repeat(9), np.arange(0, 10**9, 10**7), np.arange(0)], ids=len)
def test_what_is_computed_of_each_is_that_of_all(values, monkeypatch):
    monkeypatch.setattr(strings_module, "_PART", 7)
    seen = []

    def twice(tokens):
        seen.append(len(tokens))
        return 2 * tokens.values

    np.testing.assert_array_equal(of_each(twice, Integers(values)), 2 * values)
    assert max(seen) <= 18  # the range of the first row, or a part


@pytest.mark.parametrize("count", [3, 255, 256])
def test_the_bin_of_a_number_is_that_of_a_search(count):
    bounds = np.linspace(0, 2, count, dtype="float32")
    x = np.array([np.nan, np.inf, -np.inf, -0.0, *bounds, *(bounds + 1e-3)], "float32")
    found = layers.Discretization(bin_boundaries=bounds.tolist())(x)
    np.testing.assert_array_equal(found, np.searchsorted(bounds, x, side="right"))


def test_adapt_takes_a_list_of_batches_with_targets():
    x = np.arange(12, dtype="float32").reshape(6, 2)
    layer = layers.Normalization()
    layer.adapt([(x[:2], np.zeros(2)), (x[2:], np.zeros(4))])
    np.testing.assert_allclose(layer.mean, x.mean(0, keepdims=True))


def test_features_that_a_device_computes_may_be_crossed():
    a, b = lamina.Input((1,)), lamina.Input((1,), dtype="int32")
    crossed = layers.HashedCrossing(50)([layers.Discretization([0.0])(a), b])
    model = lamina.Model([a, b], layers.Embedding(50, 2)(crossed))
    data = [np.array([[-1.0], [1.0]]), np.array([[3], [4]])]
    rows = layers.HashedCrossing(50)([np.array([[0], [1]]), data[1]])
    np.testing.assert_array_equal(model.predict(data, verbose=0), model.layers[-1](rows))


def test_a_device_crosses_as_the_host_does():
    layer, a, b = (
        layers.HashedCrossing(1009),
        np.array([-3, 5, 2**31 - 1, -(2**31)], "int32"),
        np.arange(4, dtype="int32"),
    )
    crossed = jax.jit(lambda a, b: layer([a, b]))
    np.testing.assert_array_equal(crossed(a, b), layer([a, b]))
    np.testing.assert_array_equal(jax.vmap(crossed)(a[:, None], b[:, None])[:, 0], layer([a, b]))
