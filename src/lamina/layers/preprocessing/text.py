"""Texts as integers or vectors: TextVectorization."""

import functools
import string
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from lamina.core import checks
from lamina.core.docstrings import explained_by
from lamina.core.symbolic import KerasTensor
from lamina.data.flows import cores
from lamina.data.streams import side_by_side
from lamina.layers.preprocessing.encoding import MODES, checked_mode
from lamina.layers.preprocessing.lookup import IndexLookup, StringLookup, VocabularyLayer
from lamina.layers.preprocessing.pipelines import check_strings, documents, host_array, is_text
from lamina.layers.preprocessing.strings import Strings, strings
from lamina.layers.preprocessing.vocabulary import DROPPED

# What TensorFlow lower-cases and strips is ASCII alone.
_LOWER, _PUNCTUATION = bytes(range(256)).lower(), string.punctuation.encode()
_STANDARDS = {
    "lower_and_strip_punctuation": (_LOWER, _PUNCTUATION),
    "lower": (_LOWER, b""),
    "strip_punctuation": (bytes(range(256)), _PUNCTUATION),
}
_TOGETHER = 2**14  # texts, few enough to stay in a processor's cache


def _asked(method: Callable) -> Callable[..., Any]:
    """A method of the lookup, as one of the layer around it."""

    @functools.wraps(method)
    def ask(self: "TextVectorization", *args: Any, **kwargs: Any) -> Any:
        return method(self._lookup_layer, *args, **kwargs)

    return ask


@explained_by(IndexLookup)
class TextVectorization(VocabularyLayer):
    """Each text as the integers of its words, or as one vector: standardized, split, and looked up in a vocabulary.

    Texts are bytes in UTF-8 to it, as they are to TensorFlow: what is lower-cased, stripped and split at is ASCII.

    Args:
        standardize: "lower_and_strip_punctuation", "lower", "strip_punctuation", `None`, or a function of an array of
            strings.
        split: "whitespace", "character", `None` (the inputs are tokens), or a function of an array of strings that
            returns the tokens of each: an array, lists or a ragged tensor.
        ngrams: runs of so many tokens, from one on, are the tokens; or a tuple of the numbers.
        output_mode: "int", "multi_hot", "count" or "tf_idf", and "one_hot" where `split` is `None`.
        output_sequence_length: with "int", so many integers are returned for each text, cut off or filled with 0; if
            not given, as many as the longest text of the call has.
        sparse, ragged: must be false: arrays of JAX are dense.

    Shapes: (batch) or (batch, 1) of strings -> (batch, output_sequence_length) or (batch, size of the vocabulary).

    >>> layer = layers.TextVectorization(output_sequence_length=4)
    >>> layer.adapt(["A cat!", "a dog"])
    >>> layer.get_vocabulary()
    ['', '[UNK]', 'a', 'dog', 'cat']
    >>> layer(["The dog, a dog."]).tolist()
    [[1, 3, 2, 3]]
    """

    input_dtype: Any = "string"
    split: Any

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: Any = "lower_and_strip_punctuation",
        split: Any = "whitespace",
        ngrams: int | Sequence[int] | None = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        **kwargs: Any,
    ):
        inner = {key: kwargs.pop(key) for key in ("vocabulary_size", "has_input_vocabulary") if key in kwargs}
        super().__init__(name=name, **kwargs)
        who = self._who()
        if ragged:
            raise ValueError(f"{who}: ragged must be False; arrays of JAX are dense: 0 fills short texts up.")
        if standardize is not None and not callable(standardize):
            checks.one_of(who, "standardize", standardize, _STANDARDS)
        if split is not None and not callable(split):
            checks.one_of(who, "split", split, ("whitespace", "character"))
        self.standardize, self.split, self.ngrams = standardize, split, checks.integers(ngrams)
        self._widths = _widths(who, ngrams)
        self.output_mode = checked_mode(who, output_mode, ("int", *MODES, "tf_idf"), sparse)
        self.output_sequence_length = output_sequence_length
        if output_sequence_length is not None:
            checks.integer(who, "output_sequence_length", output_sequence_length, 0)
            if self.output_mode != "int":
                raise ValueError(f'{who}: output_sequence_length needs output_mode="int", got {output_mode!r}.')
        if self.output_mode == "one_hot" and split is not None:
            raise ValueError(f'{who}: output_mode="one_hot" needs split=None, since texts differ in length.')
        self.sparse = self.ragged = False
        self._lookup_layer = StringLookup(
            max_tokens, vocabulary=vocabulary, idf_weights=idf_weights, pad_to_max_tokens=pad_to_max_tokens,
            mask_token="", output_mode=self.output_mode, encoding=encoding, dtype=self.dtype_policy, **inner,
        )  # fmt: skip
        self.max_tokens, self.pad_to_max_tokens = self._lookup_layer.max_tokens, pad_to_max_tokens
        self.encoding, self.is_given = encoding, self._lookup_layer.is_given

    # From texts to tokens ---------------------------------------------------------------------------------------

    def _tokens(self, inputs: Any) -> tuple[Strings, np.ndarray]:
        """The tokens, and how many each text has; without `split` each row of the inputs is a text."""
        who = self._who()
        check_strings(who, inputs)
        if callable(self.standardize):
            inputs = host_array(self.standardize(_unicode(inputs, who)), who)
        texts, shape = strings(inputs, who), inputs.shape
        if isinstance(self.standardize, str):
            texts = texts.replaced(*_STANDARDS[self.standardize])
        if self.split is None:
            size = shape[-1] if shape else 1
            tokens, counts = texts, np.full(len(texts) // max(1, size), size)
        elif len(shape) > 1 and shape[-1] != 1:
            raise ValueError(f"{who}: the input must have shape (batch,) or (batch, 1), got {shape}.")
        elif self.split == "whitespace":
            tokens, counts = texts.split()
        else:
            whole = [text.decode("utf-8", "replace") for text in texts.tolist()]
            rows = self._split_by_function(whole) if callable(self.split) else list(map(list, whole))
            tokens, counts = self._of_rows(rows)
        if self._widths is None:
            return tokens, counts
        flat, ends = tokens.tolist(), np.cumsum(counts).tolist()
        return self._of_rows([_runs(flat[end - n : end], self._widths) for end, n in zip(ends, counts.tolist())])

    def _of_rows(self, rows: Any) -> tuple[Strings, np.ndarray]:
        return strings(list(chain.from_iterable(rows)), self._who()), np.fromiter(map(len, rows), np.int64, len(rows))

    def _split_by_function(self, texts: list[str]) -> Any:
        found = self.split(np.array(texts, str))
        for method in ("to_list", "tolist"):  # of ragged tensors and of arrays
            found = getattr(found, method)() if hasattr(found, method) else found
        if not isinstance(found, (list, tuple)) or len(found) != len(texts):
            raise ValueError(f"{self._who()}: split must return the tokens of each of {len(texts)} texts.")
        return found

    def _parts(self, inputs: Any) -> Iterator[Any]:
        """Some texts, and then the next ones."""
        own_function = callable(self.standardize) or callable(self.split)
        if own_function or inputs.ndim == 0 or (self.split is None and inputs.ndim == 1):
            return iter([inputs])
        return (inputs[at : at + _TOGETHER] for at in range(0, max(1, len(inputs)), _TOGETHER))

    # From tokens to integers ------------------------------------------------------------------------------------

    def call(self, inputs: Any) -> Any:
        if not self.is_ready:
            raise self._not_ready("vocabulary")
        parts = side_by_side(self._numbered, self._parts(inputs), cores() if np.size(inputs) > _TOGETHER else 1)
        numbers, counts = map(np.concatenate, zip(*parts))
        if self._keeps_shape:
            return self.encoded(numbers.reshape(inputs.shape))
        width = self.output_sequence_length
        width = int(counts.max(initial=0)) if width is None else width
        table = np.full((len(counts), width), 0 if self.output_mode == "int" else DROPPED)
        table[np.arange(width) < counts[:, None]] = numbers[_places(counts) < width]
        return self.encoded(table.reshape(*self._lead(inputs), width))

    def _numbered(self, texts: Any) -> tuple[np.ndarray, np.ndarray]:
        tokens, counts = self._tokens(texts)
        return self._lookup_layer.numbers(tokens), counts

    @property
    def _keeps_shape(self) -> bool:
        """Whether the inputs are tokens, and a number stands in the place of each."""
        return self.split is None and self.ngrams is None and self.output_sequence_length is None

    def _lead(self, inputs: Any) -> tuple[Any, ...]:
        """The axes of the texts."""
        return inputs.shape[:-1] if len(inputs.shape) > 1 or self.split is None else inputs.shape

    output_dtype = property(attrgetter("_lookup_layer.output_dtype"))
    encoded = _asked(StringLookup.encoded)

    def _symbolic_indices(self, inputs: Any) -> Any:
        checks.require(is_text(inputs), self._who, "the input must have dtype string", got=f"{inputs.dtype}")
        shape = inputs.shape if self._keeps_shape else (*self._lead(inputs), self.output_sequence_length)
        return KerasTensor(shape, "int32")

    # The vocabulary ---------------------------------------------------------------------------------------------

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Forget the vocabulary, and learn it from texts: see `Adapts.adapt`. Keras programs may give `batch_size`."""
        super().adapt(data if self.split is not None else documents(data, self._who()), steps)

    def update_state(self, data: Any) -> None:
        for tokens, counts in map(self._tokens, self._parts(host_array(data, self._who()))):
            self._lookup_layer.count(tokens, np.repeat(np.arange(len(counts)), counts), len(counts))

    is_ready = property(attrgetter("_lookup_layer.is_ready"))
    finalize_state = _asked(StringLookup.finalize_state)
    reset_state = _asked(StringLookup.reset_state)
    get_vocabulary = _asked(StringLookup.get_vocabulary)
    set_vocabulary = _asked(StringLookup.set_vocabulary)
    vocabulary_size = _asked(StringLookup.vocabulary_size)

    # Files ------------------------------------------------------------------------------------------------------

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        if name in ("vocabulary", "idf_weights"):
            return self._lookup_layer.get_config()[name]
        return self.vocabulary_size() if name == "vocabulary_size" else super()._argument(owner, name, recorded)

    save_own_variables = _asked(StringLookup.save_own_variables)
    load_own_variables = _asked(StringLookup.load_own_variables)
    save_assets = _asked(StringLookup.save_assets)
    load_assets = _asked(StringLookup.load_assets)


def _widths(who: str, ngrams: Any) -> tuple[int, ...] | None:
    if ngrams is None:
        return None
    widths = tuple(range(1, ngrams + 1)) if checks.is_integer(ngrams) else ngrams
    if not isinstance(widths, (tuple, list)) or not widths or not all(map(checks.is_integer, widths)):
        raise ValueError(f"{who}: ngrams must be a positive integer or a tuple of them, got {ngrams!r}.")
    return tuple(widths)


def _places(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... for the tokens of each text."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _runs(row: list[bytes], widths: tuple[int, ...]) -> list[bytes]:
    """The runs of so many tokens, those of the first width first."""
    return [b" ".join(row[at : at + width]) for width in widths for at in range(len(row) - width + 1)]


def _unicode(array: np.ndarray, who: str) -> np.ndarray:
    """The strings as an array of NumPy's own, which its functions and those of programs take."""
    if array.dtype.kind == "U":
        return array
    texts = strings(array, who).tolist()
    return np.array([text.decode("utf-8", "replace") for text in texts], str).reshape(array.shape)
