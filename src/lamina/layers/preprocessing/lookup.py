"""Words and numbers of a vocabulary as integers from 0 on: StringLookup and IntegerLookup."""

import os
from collections import Counter
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import checks
from lamina.core.arrays import value_of
from lamina.core.budget import UnsafeFileError
from lamina.core.configurable import variant
from lamina.core.symbolic import KerasTensor
from lamina.layers.preprocessing import fingerprints
from lamina.layers.preprocessing.encoding import MODES, checked_mode, encode
from lamina.layers.preprocessing.pipelines import (
    Adapts,
    HostLayer,
    check_strings,
    documents,
    host_array,
    is_text,
    numpy_for,
)
from lamina.layers.preprocessing.strings import UNKNOWN, Integers, Strings, of_each, strings
from lamina.layers.preprocessing.vocabulary import DROPPED, Vocabulary, by_frequency, tokens_of

ASSET = "vocabulary.txt"


class VocabularyLayer(Adapts, HostLayer):
    """Base of the layers that look tokens up in a vocabulary."""

    _further = ("vocabulary_size",)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer that `get_config` described. It must not name a file: one from a stranger could ask for any."""
        if isinstance(config.get("vocabulary"), str):
            raise UnsafeFileError(
                f"{cls.__name__}: a configuration must hold its vocabulary, got the file {config['vocabulary']!r}; "
                "call set_vocabulary with it in your program."
            )
        return super().from_config(config)


class IndexLookup(VocabularyLayer):
    """The number of a token by its place in a vocabulary that is given or learned, or the token of a number.

    Numbers go to a mask token first (0, with `output_mode="int"`), then to unknown tokens, then to the vocabulary.

    Args:
        max_tokens: the largest size of the vocabulary, special tokens included; no limit if not given.
        num_oov_indices: the number of integers for unknown tokens; with several the hash of a token says which, with 0
            unknown tokens are errors.
        mask_token: the token for "nothing here": 0 with `output_mode="int"`, else it counts for nothing.
        oov_token: what stands for unknown tokens in the vocabulary.
        vocabulary: the tokens, or a file that has one a line; if not given, `adapt` learns it.
        vocabulary_dtype: must be "int64".
        idf_weights: with `output_mode="tf_idf"` and a vocabulary, the weight of each token.
        invert: whether integers go in and tokens come out.
        output_mode: "int", "one_hot", "multi_hot", "count", or "tf_idf": the count times `log(1 + N / (1 + n))`, where
            n of N documents have the token.
        sparse: must be false.
        pad_to_max_tokens: whether vectors have the size `max_tokens`, however many tokens there are.
        encoding: must be "utf-8".
        oov_method: how unknown integers are spread: "floormod" takes the rest of the division, "farmhash" a hash.
        salt: an integer or two: the hash of unknown tokens is SipHash with this key, else FarmHash64.

    Shapes: (...) of tokens -> (...); with vectors see CategoryEncoding.
    """

    _not_parts = HostLayer._not_parts | {
        "input_vocabulary",
        "input_idf_weights",
        "idf_weights",
        "_counts",
        "_documents",
    }
    _further = ("vocabulary_size", "oov_method")
    _kind = "string"  # what the tokens are, or "int64"
    _given_by = "a vocabulary was given"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | int | None = None,
        oov_token: str | int | None = "[UNK]",
        vocabulary: Any = None,
        vocabulary_dtype: str = "int64",
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        encoding: str = "utf-8",
        oov_method: str = "floormod",
        salt: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        self._size: int | None = kwargs.pop("vocabulary_size", None)
        # At construction, so that adapt may not change it.
        self.is_given = bool(kwargs.pop("has_input_vocabulary", vocabulary is not None))
        super().__init__(name=name, **kwargs)
        who = self._who()
        self.max_tokens = None if max_tokens is None else checks.integer(who, "max_tokens", max_tokens, 2)
        checks.require(not pad_to_max_tokens or max_tokens is not None, who, "pad_to_max_tokens needs max_tokens")
        self.num_oov_indices = checks.integer(who, "num_oov_indices", num_oov_indices, 0)
        if self._kind == "int64":
            for key, token in (("mask_token", mask_token), ("oov_token", oov_token)):
                if token is not None and not checks.is_integer(token, -(2**63)):
                    raise ValueError(f"{who}: {key} must be an integer or None, got {token!r}.")
        self.mask_token, self.oov_token = checks.integers((mask_token, oov_token))
        self.pad_to_max_tokens = pad_to_max_tokens
        if not isinstance(encoding, str) or encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            raise ValueError(f'{who}: encoding must be "utf-8", got {encoding!r}; decode the strings first.')
        self.encoding = encoding
        self.vocabulary_dtype = checks.one_of(who, "vocabulary_dtype", vocabulary_dtype, ("int64",))
        self.output_mode = checked_mode(who, output_mode, ("int", *MODES, "tf_idf"), sparse)
        self.sparse, self.invert = False, bool(invert)
        checks.require(not self.invert or self.output_mode == "int", who, 'invert needs output_mode="int"', output_mode)
        self.oov_method = checks.one_of(who, "oov_method", oov_method, ("floormod", "farmhash"))
        if salt is not None and self._kind == "int64" and oov_method != "farmhash":
            raise ValueError(f'{who}: salt needs oov_method="farmhash", got {oov_method!r}.')
        self.salt = fingerprints.checked_salt(who, salt)
        self.input_vocabulary = None if isinstance(vocabulary, (str, os.PathLike)) else _plain(vocabulary)
        self.input_idf_weights = _plain(idf_weights)
        self.idf_weights: np.ndarray | None = None
        self._vocabulary: Any = None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)
        elif idf_weights is not None:
            raise ValueError(f"{who}: idf_weights needs a vocabulary, got None.")
        self.reset_state()

    @property
    def input_dtype(self) -> str:
        return "int64" if self.invert else self._kind

    @property
    def output_dtype(self) -> str:
        return self._kind if self.invert else "int64" if self.output_mode == "int" else self.compute_dtype

    def get_build_config(self) -> dict[str, Any]:
        return {}

    # The vocabulary ---------------------------------------------------------------------------------------------

    @property
    def _special(self) -> list[Any]:
        """What stands in front of the vocabulary."""
        mask = [self.mask_token] if self.mask_token is not None and self.output_mode == "int" else []
        return [*mask, *[self.oov_token] * self.num_oov_indices]

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Use a vocabulary.

        Args:
            vocabulary: the tokens, with or without the special ones in front; or a file that has one a line.
            idf_weights: with `output_mode="tf_idf"`, the weight of each token.
        """
        who = self._who()
        if (idf_weights is None) != (self.output_mode != "tf_idf"):
            rule = "needs" if idf_weights is None else "is needed for"
            raise ValueError(f'{who}: output_mode="tf_idf" {rule} idf_weights, got output_mode={self.output_mode!r}.')
        tokens = tokens_of(vocabulary, self._kind == "string", who)
        special = [self._token(each) for each in self._special]
        has_special = list(tokens[: len(special)]) == special
        own = tokens[len(special) :] if has_special else tokens
        for name in ("mask_token", "oov_token") if self.invert else ("mask_token",):
            token = getattr(self, name)
            if token is not None and self._token(token) in own:
                raise ValueError(
                    f"{who}: vocabulary must have its special tokens in front, {self._special}, or not at all, "
                    f"got the {name} {token!r} behind."
                )
        size = len(own) + len(special)
        rule = f"vocabulary must fit max_tokens={self.max_tokens}"
        checks.require(self.max_tokens is None or size <= self.max_tokens, who, rule, got=f"{size} with special tokens")
        self._use(own)
        if idf_weights is not None:
            self.idf_weights = self._weights_of(np.asarray(value_of(idf_weights), "float32"), len(tokens), has_special)

    def _token(self, token: Any) -> Any:
        return token.encode() if isinstance(token, str) else token

    def _use(self, tokens: Any) -> None:
        size = len(tokens) + len(self._special)
        fixed = self.output_mode != "int" and not self.pad_to_max_tokens
        if fixed and self._size not in (None, size):
            raise RuntimeError(
                f"{self._who()}: the vocabulary must keep its size of {self._size}, which the outputs have, got "
                f"{size}; pad_to_max_tokens leaves room."
            )
        masked = 0 if self.output_mode == "int" else DROPPED
        more = [] if self.mask_token is None else [(self._token(self.mask_token), masked)]
        start = len(self._special)
        unknown = start - 1 if self.num_oov_indices == 1 else UNKNOWN  # of several, or of none, a look tells
        made = Vocabulary(tokens, start, more, self._kind == "string", unknown)
        if made.repeated:
            shown = [self._shown(token) for token in made.repeated]
            raise ValueError(f"{self._who()}: vocabulary must hold each token once, got {checks.shorten(shown)} again.")
        self._vocabulary, self._size = made, size

    def _weights_of(self, weights: np.ndarray, size: int, has_special: bool) -> np.ndarray:
        """The weights with those of special tokens in front, the mean, and zeros up to `max_tokens` behind."""
        padded = self.pad_to_max_tokens and len(weights) == self.max_tokens
        if weights.ndim != 1 or (len(weights) != size and not padded):
            raise ValueError(f"{self._who()}: idf_weights must be one for each of {size} tokens, got {weights.shape}.")
        front = 0 if has_special else len(self._special)
        missing = (self.max_tokens or 0) - front - len(weights) if self.pad_to_max_tokens else 0
        return np.pad(weights, (front, missing), constant_values=(weights.mean(), 0))

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The tokens in the order of their numbers."""
        tokens = [] if self._vocabulary is None else self._vocabulary.tokens
        return [*(self._special if include_special_tokens else []), *map(self._shown, tokens)]

    def _shown(self, token: Any) -> Any:
        return token.decode("utf-8", "surrogateescape") if isinstance(token, bytes) else token

    def vocabulary_size(self) -> int:
        """The number of tokens, special ones included."""
        return len(self._special) + (0 if self._vocabulary is None else len(self._vocabulary.tokens))

    @property
    def is_ready(self) -> bool:
        return self._vocabulary is not None

    # Learning it ------------------------------------------------------------------------------------------------

    def update_state(self, data: Any) -> None:
        array = host_array(data, self._who())
        rows = array.reshape(1, -1) if array.ndim < 2 else array
        self.count(self._read(rows), np.repeat(np.arange(len(rows)), rows[0].size if len(rows) else 0), len(rows))

    def count(self, tokens: Strings | Integers, documents: np.ndarray, number: int) -> None:
        """Learn from tokens, given the document of each, of so many."""
        self._check_not_given()
        found = tokens.counts(documents if self.output_mode == "tf_idf" else None)
        self._counts.update(dict(zip(found.tokens, found.times.tolist())))
        if found.documents is not None:
            self._documents.update(dict(zip(found.tokens, found.documents.tolist())))
            self._number_of_documents += number

    def adapt(self, data: Any, steps: int | None = None) -> None:
        super().adapt(documents(data, self._who()), steps)

    def finalize_state(self) -> None:
        if self.is_given or not self._counts:
            return
        for token in (self.mask_token, self.oov_token):
            self._counts.pop(self._token(token), None)
        room = None if self.max_tokens is None else self.max_tokens - len(self._special)
        found = by_frequency(self._counts, room)
        if self.output_mode == "tf_idf":
            seen = np.array([self._documents[token] for token in found], np.float64)
            weights = np.log(1 + self._number_of_documents / (1 + seen)).astype("float32")
            self.idf_weights = self._weights_of(weights, len(found), has_special=False)
        self._use(found)
        self.reset_state()

    def reset_state(self) -> None:
        self._counts: Counter[Any] = Counter()
        self._documents: Counter[Any] = Counter()
        self._number_of_documents = 0

    # Looking up -------------------------------------------------------------------------------------------------

    def call(self, inputs: Any) -> Any:
        if self._vocabulary is None:
            raise self._not_ready("vocabulary")
        if self.invert:
            return self._tokens_at(inputs)
        return super().call(inputs)

    def indices(self, inputs: Any) -> Any:
        if self._kind != "string":
            return self.numbers(self._read(inputs)).reshape(inputs.shape)
        return of_each(lambda some: self.numbers(self._read(some)), inputs.ravel()).reshape(inputs.shape)

    def _read(self, inputs: Any) -> Any:
        """The tokens: `Strings` or `Integers`, or an array of JAX."""
        if self._kind == "string":
            check_strings(self._who(), inputs)
            return strings(inputs, self._who())
        if inputs.dtype.kind not in "iu" and inputs.size:
            raise ValueError(f"{self._who()}: the input must hold integers, got dtype {inputs.dtype}.")
        return Integers(inputs) if isinstance(inputs, np.ndarray) else inputs

    def numbers(self, tokens: Any) -> Any:
        """The numbers of tokens, also of unknown ones."""
        numbers, count = self._vocabulary.numbers(tokens), self.num_oov_indices
        if count == 1:
            return numbers
        first = len(self._special) - count  # of the unknown ones
        if not isinstance(numbers, np.ndarray):
            return jnp.where(numbers == UNKNOWN, self._unknown_bins(tokens) + first, numbers) if count else numbers
        unknown = np.flatnonzero(numbers == UNKNOWN)
        if count == 0 and len(unknown):
            token = self._shown(tokens[unknown[:1]].tolist()[0])
            raise ValueError(
                f"{self._who()}: with num_oov_indices=0 all tokens must be in the vocabulary, got {token!r}; "
                "num_oov_indices=1 gives unknown ones a number."
            )
        if len(unknown):
            numbers[unknown] = first + self._unknown_bins(tokens[unknown])
        return numbers

    def _unknown_bins(self, tokens: Any) -> Any:
        if isinstance(tokens, Strings) or self.oov_method == "farmhash":
            return fingerprints.bins(tokens, self.num_oov_indices, self.salt)
        return (tokens.values if isinstance(tokens, Integers) else tokens) % self.num_oov_indices

    def _tokens_at(self, numbers: Any) -> Any:
        """The token of each number, the unknown one where there is none."""
        if self._kind == "string":
            table = np.array([*self.get_vocabulary(), self.oov_token], object)
            numbers = np.asarray(numbers)
        else:
            xp = numpy_for(numbers)
            table = xp.asarray(np.array([*self.get_vocabulary(), self.oov_token]), None if xp is np else "int32")
        outside = (numbers < 0) | (numbers >= len(table) - 1)
        return table[numpy_for(numbers).where(outside, len(table) - 1, numbers)]

    def encoded(self, indices: Any) -> Any:
        if self.output_mode == "int":
            return indices
        depth = self.max_tokens if self.pad_to_max_tokens else self._size
        if depth is None:
            raise self._not_ready("vocabulary")
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        out = encode(indices, mode, depth, self.compute_dtype)
        if self.idf_weights is not None:
            out = out * np.asarray(self.idf_weights, out.dtype)
        return out

    def _evaluate(self, inputs: Any) -> Any:
        wrong = is_text(inputs) != (self.input_dtype == "string") or "float" in inputs.dtype
        checks.require(not wrong, self._who, f"the input must have dtype {self.input_dtype}", got=f"{inputs.dtype}")
        return KerasTensor(inputs.shape, self._kind) if self.invert else super()._evaluate(inputs)

    # Files ------------------------------------------------------------------------------------------------------

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        known = {
            "vocabulary": self.input_vocabulary, "idf_weights": self.input_idf_weights, "vocabulary_size": self._size
        }  # fmt: skip
        return known[name] if name in known else super()._argument(owner, name, recorded)

    def save_own_variables(self, store: Any) -> None:
        if self.idf_weights is not None:
            store["idf_weights"] = self.idf_weights

    def load_own_variables(self, store: Any) -> None:
        if self.output_mode == "tf_idf" and "idf_weights" in store:
            self.idf_weights = np.asarray(store["idf_weights"], "float32")

    def save_assets(self, dir_path: str) -> None:
        """Write the vocabulary to a file in a folder, unless the configuration has it."""
        if self.input_vocabulary is not None or self._vocabulary is None:
            return
        lines = [str(token).encode("utf-8", "surrogateescape") for token in self.get_vocabulary()]
        broken = [line for line in lines if b"\n" in line]
        if broken:
            raise ValueError(f"{self._who()}: tokens must be lines to be saved, got {checks.shorten(broken[0])}.")
        with open(os.path.join(dir_path, ASSET), "wb") as file:
            file.write(b"\n".join(lines))

    def load_assets(self, dir_path: str) -> None:
        """Read what `save_assets` wrote."""
        if self.input_vocabulary is not None:
            return
        self.set_vocabulary(os.path.join(dir_path, ASSET), self.idf_weights)


def _plain(values: Any) -> Any:
    """Arrays as lists, for the configuration."""
    values = value_of(values)
    return np.asarray(values).tolist() if hasattr(values, "__array__") else values


@variant(without=["vocabulary_dtype", "oov_method"], before={"pad_to_max_tokens": "sparse", "salt": None})
class StringLookup(IndexLookup):
    """Strings as integers, by their place in a vocabulary that is given or learned.

    Shapes: (...) of strings -> (...); with vectors see CategoryEncoding.

    >>> layer = layers.StringLookup(vocabulary=["cat", "dog"])
    >>> layer(["dog", "cat", "cow"]).tolist(), layer.get_vocabulary()
    ([2, 1, 0], ['[UNK]', 'cat', 'dog'])
    """


@variant(defaults={"oov_token": -1}, without=["encoding"])
class IntegerLookup(IndexLookup):
    """Integers as integers from 0 on, by their place in a vocabulary that is given or learned.

    Shapes: (...) of integers -> (...); with vectors see CategoryEncoding.

    >>> layer = layers.IntegerLookup()
    >>> layer.adapt([20, 30, 20])
    >>> layer(np.array([20, 30, 7])).tolist()
    [1, 2, 0]
    """

    _kind = "int64"
