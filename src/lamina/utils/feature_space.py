"""`FeatureSpace`: columns of a table, each by a layer of its own, as one input of a model."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
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


class _Named:
    """What files know by its own name in a module of Keras."""

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return _MODULE, type(self).__name__, type(self).__name__


class Feature(_Named, Configurable):
    """A column: its dtype, the layer that prepares it, and the form that it has behind.

    Args:
        dtype: of the values, such as "string".
        preprocessor: a layer.
        output_mode: "int", "one_hot" or "float".
    """

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str):
        self.dtype, self.preprocessor = dtype, configurable.deserialize(preprocessor)
        self.output_mode = checks.one_of("Feature", "output_mode", output_mode, ("int", "one_hot", "float"))


class Cross(_Named, Configurable):
    """Several columns as one, by a hash of their values together.

    Args:
        feature_names: the names of the columns.
        crossing_dim: the number of bins.
        output_mode: "int" or "one_hot".
    """

    def __init__(self, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"):
        self.feature_names = tuple(feature_names)
        self.name = "_X_".join(self.feature_names)
        self.crossing_dim = checks.integer("Cross", "crossing_dim", crossing_dim)
        self.output_mode = checks.one_of("Cross", "output_mode", output_mode, ("int", "one_hot"))


class TFDIdentity(_Named, DataLayer):
    """The inputs; files know it by this name."""

    texts = True

    def call(self, inputs: Any) -> Any:
        return inputs


def _find(module: str, name: str, function: bool) -> Any:
    known = {each.__name__: each for each in (Feature, Cross, TFDIdentity, FeatureSpace)}
    return None if function else known.get(name)


registry.add_kind(lambda module: module in (_MODULE, "keras.utils"), _find)


_NEEDED = Parameter.empty
_TOKENS = {"max_tokens": None, "num_oov_indices": 1, "output_mode": "one_hot"}
_HASHED = {"num_bins": _NEEDED, "output_mode": "one_hot"}


def _discretization(num_bins: int, bin_boundaries: Any = None, **kwargs: Any) -> Any:
    return layers.Discretization(bin_boundaries, num_bins if bin_boundaries is None else None, **kwargs)


def _kind(name: str, dtype: str, layer: Callable, says: str, **defaults: Any) -> Any:
    """A constructor of features: a static method with the arguments of a layer, and `output_mode` if there is a choice.

    `defaults` are those of its arguments, `_NEEDED` where one must be given, and `says` is its docstring.
    """
    parameters = {**defaults, "name": None}.items()
    signature = inspect.Signature([Parameter(k, Parameter.POSITIONAL_OR_KEYWORD, default=v) for k, v in parameters])

    def make(*args: Any, **kwargs: Any) -> Feature:
        arguments = {**defaults, **signature.bind(*args, **kwargs).arguments}
        output_mode = arguments.pop("output_mode", "float")
        own_name = arguments.pop("name", None) or scope.unique_name(name)
        return Feature(dtype, layer(name=f"{own_name}_preprocessor", **arguments), output_mode)

    made: Any = make
    made.__name__, made.__qualname__, made.__doc__, made.__signature__ = name, f"FeatureSpace.{name}", says, signature
    return staticmethod(made)


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

    cross, feature = Cross, Feature
    float = _kind("float", "float32", TFDIdentity, "Numbers as they are.")
    float_rescaled = _kind(
        "float_rescaled", "float32", layers.Rescaling, "`x * scale + offset`.", scale=1.0, offset=0.0
    )
    float_normalized = _kind("float_normalized", "float32", layers.Normalization, "Numbers with mean 0 and variance 1.")
    float_discretized = _kind(
        "float_discretized", "float32", _discretization, "The bins that numbers fall into.",
        num_bins=_NEEDED, bin_boundaries=None, output_mode="one_hot",
    )  # fmt: skip
    integer_categorical = _kind(
        "integer_categorical", "int32", layers.IntegerLookup, "Integers by their place in a vocabulary.", **_TOKENS
    )
    string_categorical = _kind(
        "string_categorical", "string", layers.StringLookup, "Strings by their place in a vocabulary.", **_TOKENS
    )
    string_hashed = _kind("string_hashed", "string", layers.Hashing, "Strings by their hash.", **_HASHED)
    integer_hashed = _kind("integer_hashed", "int32", layers.Hashing, "Integers by their hash.", **_HASHED)

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
        checks.require(features, self._who(), "features must name at least one column", features)
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
        cross = configurable.deserialize(cross)
        made = cross if isinstance(cross, Cross) else Cross(cross, self.crossing_dim)
        unknown = [name for name in made.feature_names if name not in self.features]
        rule = f"crosses must be of features ({', '.join(self.features)})"
        checks.require(not unknown, self._who(), rule, *unknown[:1])
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
            self._encoded = self.call(self.inputs)
        return self._encoded

    # Encoding ---------------------------------------------------------------------------------------------------

    def call(self, data: Any) -> Any:
        if not all(layer.is_ready for layer in self._to_adapt().values()):
            raise ValueError(f"{self._who()}: adapt must be called on data before the features are used.")
        prepared = {name: layer(data[name]) for name, layer in self.preprocessors.items()}
        crossed = {c.name: self.crossers[c.name]([prepared[n] for n in c.feature_names]) for c in self.crosses}
        kinds = {**self.features, **{cross.name: cross for cross in self.crosses}}
        out = {}
        for name, array in [*sorted(prepared.items()), *sorted(crossed.items())]:
            out[name] = self._one_hot(name, array) if kinds[name].output_mode == "one_hot" else array
        if self.output_mode == "dict":
            return out
        remedy = 'use output_mode="dict", or "one_hot" for the feature'
        for name, array in out.items():
            rule, dtype = f"feature {name!r} must be encoded to be concatenated", str(array.dtype)
            checks.require("float" in dtype, self._who(), rule, got=dtype, remedy=remedy)
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
        columns, single = {}, False
        for name in self.features:
            x = data[name] if of_tensorflow(data[name]) else host_array(data[name], self._who())
            single = single or len(x.shape) == 0
            x = x if len(x.shape) else x[None]
            columns[name] = x if len(x.shape) > 1 else x[:, None]
        out = self.call(columns)
        if not single:
            return out
        return {name: x[0] for name, x in out.items()} if isinstance(out, dict) else out[0]

    # Files ------------------------------------------------------------------------------------------------------

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return "keras.utils", "FeatureSpace", None

    def get_config(self) -> dict[str, Any]:
        names = ("features", "output_mode", "crosses", "crossing_dim", "hashing_dim", "num_discretization_bins")
        return {name: configurable.serialize(getattr(self, name)) for name in names}

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
