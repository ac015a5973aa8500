"""`FeatureSpace`: columns of a table, each by a layer of its own, as one input of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lamina import layers
from lamina.core import checks, configurable, registry, scope
from lamina.core.configurable import Configurable
from lamina.layer import Layer
from lamina.layers.preprocessing.foreign import of_tensorflow
from lamina.layers.preprocessing.pipelines import Adapts, DataLayer, Joined, host_array
from lamina.saving import archive

_MODULE = "keras.src.layers.preprocessing.feature_space"


class Feature(Configurable):
    """A column: its dtype, the layer that prepares it, and the form that it has behind.

    Args:
        dtype: of the values, such as "string".
        preprocessor: a layer.
        output_mode: "int", "one_hot" or "float".
    """

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str):
        self.dtype = dtype
        self.preprocessor = (
            configurable.deserialize(preprocessor) if isinstance(preprocessor, Mapping) else preprocessor
        )
        self.output_mode = checks.one_of("Feature", "output_mode", output_mode, ("int", "one_hot", "float"))

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return _MODULE, "Feature", "Feature"


class Cross(Configurable):
    """Several columns as one, by a hash of their values together.

    Args:
        feature_names: the names of the columns.
        crossing_dim: the number of bins.
        output_mode: "int" or "one_hot".
    """

    def __init__(self, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"):
        self.feature_names = tuple(feature_names)
        self.crossing_dim = checks.integer("Cross", "crossing_dim", crossing_dim)
        self.output_mode = checks.one_of("Cross", "output_mode", output_mode, ("int", "one_hot"))

    @property
    def name(self) -> str:
        """The names of the columns, joined."""
        return "_X_".join(self.feature_names)

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return _MODULE, "Cross", "Cross"


class TFDIdentity(DataLayer):
    """The inputs; files know it by this name."""

    def call(self, inputs: Any) -> Any:
        return inputs

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return _MODULE, "TFDIdentity", "TFDIdentity"


def _find(module: str, name: str, function: bool) -> Any:
    known = {each.__name__: each for each in (Feature, Cross, TFDIdentity, FeatureSpace)}
    return None if function else known.get(name)


registry.add_kind(lambda module: module in (_MODULE, "keras.utils"), _find)


def _feature(dtype: str, layer: Any, output_mode: str, kind: str, name: str | None, **arguments: Any) -> Feature:
    name = name or scope.unique_name(kind)
    return Feature(dtype, layer(name=f"{name}_preprocessor", **arguments), output_mode)


class FeatureSpace(Layer):
    """Columns of a table, each prepared by a layer of its own, as one array or as a dict of arrays.

    Args:
        features: name of a column -> what it is: a name such as "float_normalized" or "string_categorical", or what one
            of the class methods returns.
        output_mode: "concat" for one array, "dict" for one of each column.
        crosses: names of columns, in tuples, whose values count together too.
        crossing_dim: the number of bins of a cross.
        hashing_dim: the number of bins of "string_hashed" and "integer_hashed".
        num_discretization_bins: the number of bins of "float_discretized".
        name: unique if not given.

    Raises: ValueError if a feature is not known, or an argument outside its domain.

    >>> space = lamina.utils.FeatureSpace({"size": "float", "kind": lamina.utils.FeatureSpace.string_categorical()})
    >>> space.adapt({"size": [1.0, 2.0], "kind": ["cat", "dog"]})
    >>> np.asarray(space({"size": [0.5], "kind": ["cat"]})).tolist()  # unknown, dog, cat; size
    [[0.0, 0.0, 1.0, 0.5]]
    """

    @classmethod
    def cross(cls, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot") -> Cross:
        """Several columns as one."""
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Any, output_mode: str) -> Feature:
        """A column that a layer of the program prepares."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:
        """Numbers as they are."""
        return _feature("float32", TFDIdentity, "float", "float", name)

    @classmethod
    def float_rescaled(cls, scale: Any = 1.0, offset: Any = 0.0, name: str | None = None) -> Feature:
        """`x * scale + offset`."""
        rescaling = getattr(layers, "Rescaling")  # noqa: B009
        return _feature("float32", rescaling, "float", "float_rescaled", name, scale=scale, offset=offset)

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Numbers with mean 0 and variance 1."""
        return _feature("float32", layers.Normalization, "float", "float_normalized", name, axis=-1)

    @classmethod
    def float_discretized(
        cls, num_bins: int, bin_boundaries: Any = None, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """The bins that numbers fall into."""
        bins = {"num_bins": num_bins} if bin_boundaries is None else {"bin_boundaries": bin_boundaries}
        return _feature("float32", layers.Discretization, output_mode, "float_discretized", name, **bins)

    @classmethod
    def integer_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Integers by their place in a vocabulary."""
        sizes = {"max_tokens": max_tokens, "num_oov_indices": num_oov_indices}
        return _feature("int32", layers.IntegerLookup, output_mode, "integer_categorical", name, **sizes)

    @classmethod
    def string_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Strings by their place in a vocabulary."""
        sizes = {"max_tokens": max_tokens, "num_oov_indices": num_oov_indices}
        return _feature("string", layers.StringLookup, output_mode, "string_categorical", name, **sizes)

    @classmethod
    def string_hashed(cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None) -> Feature:
        """Strings by their hash."""
        return _feature("string", layers.Hashing, output_mode, "string_hashed", name, num_bins=num_bins)

    @classmethod
    def integer_hashed(cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None) -> Feature:
        """Integers by their hash."""
        return _feature("int32", layers.Hashing, output_mode, "integer_hashed", name, num_bins=num_bins)

    def __init__(
        self,
        features: Mapping[str, Any],
        output_mode: str = "concat",
        crosses: Sequence[Any] | None = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not features:
            raise ValueError(f"{self._who()}: features must name at least one column, got {features!r}.")
        self.crossing_dim, self.hashing_dim = crossing_dim, hashing_dim
        self.num_discretization_bins = num_discretization_bins
        self.output_mode = checks.one_of(self._who(), "output_mode", output_mode, ("dict", "concat"))
        self.features = {key: self._as_feature(key, value) for key, value in features.items()}
        self.crosses = [self._as_cross(cross) for cross in crosses or ()]
        self.inputs = {key: layers.Input((1,), dtype=f.dtype, name=key) for key, f in self.features.items()}
        self.preprocessors = {key: feature.preprocessor for key, feature in self.features.items()}
        self.crossers = {c.name: layers.HashedCrossing(c.crossing_dim, name=c.name) for c in self.crosses}
        self.one_hot_encoders: dict[str, Any] = {}
        self.concat = Joined()
        self._encoded: Any = None

    def _as_feature(self, name: str, feature: Any) -> Feature:
        if isinstance(feature, Mapping):
            feature = configurable.deserialize(feature)
        if isinstance(feature, Feature):
            return feature
        sizes = {
            "float_discretized": (self.num_discretization_bins,),
            "string_hashed": (self.hashing_dim,),
            "integer_hashed": (self.hashing_dim,),
        }
        plain = ("float", "float_normalized", "float_rescaled", "integer_categorical", "string_categorical")
        known = checks.one_of(self._who(), f"feature {name!r}", feature, (*plain, *sizes))
        return getattr(self, known)(*sizes.get(known, ()), name=name)

    def _as_cross(self, cross: Any) -> Cross:
        cross = configurable.deserialize(cross) if isinstance(cross, Mapping) else cross
        made = cross if isinstance(cross, Cross) else Cross(cross, self.crossing_dim)
        unknown = [name for name in made.feature_names if name not in self.features]
        if unknown:
            raise ValueError(
                f"{self._who()}: crosses must be of features ({', '.join(self.features)}), got {unknown[0]!r}."
            )
        return made

    # Learning ---------------------------------------------------------------------------------------------------

    def _to_adapt(self) -> dict[str, Any]:
        """The layers that learn from data and have not been given what they would learn."""
        known = self.preprocessors.items()
        return {name: layer for name, layer in known if isinstance(layer, Adapts) and not layer.is_given}

    def adapt(self, dataset: Any) -> None:
        """Let the layers learn, in one pass.

        Args:
            dataset: a dict of columns, a pandas DataFrame, or a stream of such dicts: tf.data, batched or not.
        """
        adapting = self._to_adapt()
        for layer in adapting.values():
            layer.reset_state()
        for batch in [dataset] if hasattr(dataset, "keys") else dataset:
            if not hasattr(batch, "keys"):
                raise ValueError(f"{self._who()}: adapt must get columns by name, got {type(batch).__name__}.")
            for name, layer in adapting.items():
                layer.update_state(_column(batch[name], self._who()))
        for layer in adapting.values():
            layer.finalize_state()
        self.get_encoded_features()
        self.built = True

    def get_inputs(self) -> dict[str, Any]:
        """The symbolic inputs by name, for a model on raw columns."""
        self.get_encoded_features()
        return self.inputs

    def get_encoded_features(self) -> Any:
        """The symbolic outputs for the inputs of `get_inputs`, for a model on prepared columns."""
        if self._encoded is None:
            self._encoded = self._encode(self.inputs)
        return self._encoded

    # Encoding ---------------------------------------------------------------------------------------------------

    def call(self, data: Any) -> Any:
        return self._encode(data)

    def _encode(self, columns: Mapping[str, Any]) -> Any:
        if not all(layer.is_ready for layer in self._to_adapt().values()):
            raise ValueError(f"{self._who()}: adapt must be called on data before the features are used.")
        prepared = {name: layer(columns[name]) for name, layer in self.preprocessors.items()}
        crossed = {c.name: self.crossers[c.name]([prepared[n] for n in c.feature_names]) for c in self.crosses}
        kinds = {**self.features, **{cross.name: cross for cross in self.crosses}}
        out = {}
        for name, array in [*sorted(prepared.items()), *sorted(crossed.items())]:
            out[name] = self._one_hot(name, array) if kinds[name].output_mode == "one_hot" else array
        if self.output_mode == "dict":
            return out
        whole = [name for name, array in out.items() if "float" not in str(array.dtype)]
        if whole:
            raise ValueError(
                f"{self._who()}: feature {whole[0]!r} must be encoded to be concatenated, got {out[whole[0]].dtype}; "
                'use output_mode="dict", or "one_hot" for the feature.'
            )
        return self.concat(list(out.values()))

    def _one_hot(self, name: str, array: Any) -> Any:
        if name not in self.one_hot_encoders:
            layer: Any = self.preprocessors.get(name) or self.crossers[name]
            sizes = (getattr(layer, "num_tokens", None), getattr(layer, "num_bins", None))
            size = layer.vocabulary_size() if hasattr(layer, "vocabulary_size") else next(filter(None, sizes), None)
            if size is None and hasattr(layer, "bin_boundaries"):
                size = len(layer.bin_boundaries) + 1
            if size is None or "int" not in str(array.dtype):
                raise ValueError(f"{self._who()}: feature {name!r} must be an integer of a known range for one_hot.")
            self.one_hot_encoders[name] = layers.CategoryEncoding(size, "multi_hot")
        return self.one_hot_encoders[name](array)

    _not_parts = Layer._not_parts | {"features", "crosses", "inputs"}  # the layers are among the preprocessors
    autograph_info__ = None  # which keeps TensorFlow from rewriting the code of this class

    def __call__(self, data: Any) -> Any:
        if not hasattr(data, "keys"):
            raise ValueError(f"{self._who()}: the input must be a dict of columns, got {type(data).__name__}.")
        missing = [name for name in self.features if name not in data]
        if missing:
            raise ValueError(f"{self._who()}: the input must have the column {missing[0]!r}.")
        columns = {name: _tensor(data[name], self._who()) for name in self.features}
        single = {name for name, x in columns.items() if len(x.shape) == 0}
        columns = {name: x if len(x.shape) > 1 else _reshaped(x) for name, x in columns.items()}
        out = self._encode(columns)
        if not single:
            return out
        return {name: x[0] for name, x in out.items()} if isinstance(out, dict) else out[0]

    # Files ------------------------------------------------------------------------------------------------------

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return "keras.utils", "FeatureSpace", None

    def get_config(self) -> dict[str, Any]:
        return {
            "features": configurable.serialize(self.features), "output_mode": self.output_mode,
            "crosses": configurable.serialize(self.crosses), "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim, "num_discretization_bins": self.num_discretization_bins,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FeatureSpace:
        return cls(**{key: configurable.deserialize(value) for key, value in config.items()})

    def get_build_config(self) -> dict[str, Any]:
        return {name: layer.get_build_config() for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        for name, built in config.items():
            if not self.preprocessors[name].built and built:
                self.preprocessors[name].build_from_config(built)

    def save(self, filepath: Any) -> None:
        """Write the features, with what they have learned, to a `.keras` file."""
        archive.save_model(self, filepath)


def _column(values: Any, who: str) -> np.ndarray:
    """A column with an axis for the rows and one of size 1."""
    array = np.asarray(host_array(values, who))
    return array.reshape(-1, 1) if array.ndim < 2 else array


def _tensor(values: Any, who: str) -> Any:
    return values if of_tensorflow(values) else host_array(values, who)


def _reshaped(x: Any) -> Any:
    """With two axes; of TensorFlow's tensors too."""
    return x[None, None] if len(x.shape) == 0 else x[:, None]
