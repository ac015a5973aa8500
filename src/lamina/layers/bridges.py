"""What others wrote in JAX as layers: functions, and modules of Flax and Equinox."""

import copy
import inspect
import sys
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import lax, tree_util

from lamina.core import configurable, tree
from lamina.core.functions import Live, by_name
from lamina.core.variable import Variable
from lamina.layer import Layer
from lamina.random import SeedGenerator


class Source:
    """Something that computes with parameters and state, both trees of arrays, that others keep for it."""

    draws: bool

    def first(self) -> tuple[Any, Any] | None:
        """The parameters and the state that it comes with, if it does."""
        raise NotImplementedError

    def init(self, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        """Parameters and state to start from, for such inputs, if it comes with none."""
        raise NotImplementedError

    def apply(self, params: Any, state: Any, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        """The outputs, and the state after."""
        raise NotImplementedError

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # it holds nothing that changes, so a copy of a layer has the same one


class Functions(Source):
    """A function of what it names of `params, state, rng, inputs, training`, or a plain `apply(params, inputs)`.

    Args:
        who: the layer, for errors.
        call_fn: returns the outputs, and with `state` among its arguments `(outputs, state)`.
        init_fn: of what it names of `rng, inputs, training`, or a plain `init(rng, inputs)`.
        params, state: to start from instead.
    """

    def __init__(self, who: str, call_fn: Callable, init_fn: Callable | None, params: Any, state: Any):
        self.call_fn, self.init_fn, self._first = call_fn, init_fn, (params, state)
        self._call = _names(call_fn, ("params", "state", "rng", "inputs", "training"), ("params", "inputs"), who)
        self._init = _names(init_fn, ("rng", "inputs", "training"), ("rng", "inputs"), who) if init_fn else ((), True)
        self.draws = "rng" in {*self._call[0], *self._init[0]}
        self.has_state = "state" in self._call[0]
        if "inputs" not in self._call[0]:
            raise ValueError(f"{who}: call_fn must take inputs, got a function of {', '.join(self._call[0])}.")
        if init_fn is None and state is None and (self.has_state or (params is None and "params" in self._call[0])):
            raise ValueError(f"{who}: params, state or init_fn must be given, since call_fn takes them.")

    def first(self) -> tuple[Any, Any] | None:
        known = self.init_fn is None or any(part is not None for part in self._first)
        return self._first if known else None

    def init(self, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        made = _call(self.init_fn, self._init, {"rng": rng, "inputs": inputs, "training": training})
        return made if self.has_state else (made, None)

    def apply(self, params: Any, state: Any, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        given = {"params": params, "state": state, "rng": rng, "inputs": inputs, "training": training}
        out = _call(self.call_fn, self._call, given)
        return out if self.has_state else (out, None)


def _names(fn: Callable, known: tuple[str, ...], plain: tuple[str, ...], who: str) -> tuple[tuple[str, ...], bool]:
    """What a function takes, and whether by name: else it is one of those `plain` arguments."""
    parameters = inspect.signature(fn).parameters
    names = tuple(parameters)
    if set(names) <= set(known):
        return names, True
    required = [p for p in parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL]
    if len(required) > len(plain) or len(names) < len(plain):
        raise ValueError(f"{who}: the function must take some of {', '.join(known)}, got one of {', '.join(names)}.")
    return plain, False


def _call(fn: Any, names: tuple[tuple[str, ...], bool], given: dict[str, Any]) -> Any:
    arguments, by_name = {name: given[name] for name in names[0]}, names[1]
    return fn(**arguments) if by_name else fn(*arguments.values())


class Linen(Source):
    """A module of `flax.linen`: its "params" are trained, its other collections are state."""

    draws = True

    def __init__(self, module: Any, method: Any, variables: Any):
        self.module, self.method, self.variables = module, method, variables
        fn = getattr(type(module), method) if isinstance(method, str) else method or type(module).__call__
        self._flag = _flag(fn)

    def first(self) -> tuple[Any, Any] | None:
        return None if self.variables is None else _parted(self.variables)

    def init(self, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        return _parted(self.module.init(rng, inputs, method=self.method, **_said(self._flag, training)))

    def apply(self, params: Any, state: Any, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        given = {"method": self.method, "rngs": rng, **_said(self._flag, training)}
        out, after = self.module.apply({"params": params, **state}, inputs, mutable=list(state), **given)
        return out, {**state, **after}


def _flag(fn: Any) -> str | None:
    """The argument of a module's call that says whether it trains."""
    names = inspect.signature(fn).parameters
    return next((name for name in ("training", "train", "deterministic") if name in names), None)


def _said(flag: str | None, training: bool) -> dict[str, bool]:
    """The argument that says so, where there is one."""
    return {flag: training is not (flag == "deterministic")} if flag else {}


def _parted(variables: Any) -> tuple[Any, Any]:
    return variables.get("params", {}), {name: part for name, part in variables.items() if name != "params"}


class Nnx(Source):
    """A module of `flax.nnx`: its `Param`s are trained, its other variables are state, random streams among them."""

    draws = False  # from streams of its own

    def __init__(self, module: Any):
        self.module = module
        self._graph, params, state = self._library.split(module, self._library.Param, ...)
        self._first = params, state
        self._flag = _flag(type(module).__call__)

    @property
    def _library(self) -> Any:
        return sys.modules["flax.nnx"]

    def first(self) -> tuple[Any, Any] | None:
        return self._first

    def apply(self, params: Any, state: Any, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        module = self._library.merge(self._graph, params, state)
        module.train() if training else module.eval()
        return module(inputs, **_said(self._flag, training)), self._library.split(module, self._library.Param, ...)[2]


class Equinox(Source):
    """A module of Equinox, which is of one sample, over a batch: its floating arrays are trained."""

    def __init__(self, module: Any, state: Any):
        self.module, self.state = module, state
        self.draws = "key" in inspect.signature(type(module).__call__).parameters

    @property
    def _library(self) -> Any:
        return sys.modules["equinox"]

    def first(self) -> tuple[Any, Any] | None:
        params, self._fixed = self._library.partition(self.module, self._library.is_inexact_array)
        return params, self.state

    def apply(self, params: Any, state: Any, rng: Any, inputs: Any, training: bool) -> tuple[Any, Any]:
        module = self._library.nn.inference_mode(self._library.combine(params, self._fixed), not training)

        def one(x: Any, state: Any) -> tuple[Any, Any]:
            given = {"key": jax.random.fold_in(rng, lax.axis_index("batch"))} if self.draws else {}
            return (module(x, **given), None) if state is None else module(x, state, **given)

        return jax.vmap(one, (0, None), (0, None), axis_name="batch")(inputs, state)


def source_of(who: str, given: Any, init_fn: Any, params: Any, state: Any, method: Any = None) -> Source:
    """What computes, of a function or a module of any of these libraries; none of them is imported for it."""
    linen, nnx, equinox = (sys.modules.get(name) for name in ("flax.linen", "flax.nnx", "equinox"))
    if nnx is not None and isinstance(given, nnx.Module):
        return Nnx(given)
    if linen is not None and isinstance(given, linen.Module):
        return Linen(given, method, params)
    module, own_state = given if isinstance(given, tuple) and len(given) == 2 else (given, state)
    if equinox is not None and isinstance(module, equinox.Module):
        return Equinox(module, own_state)
    if not callable(given):
        raise TypeError(f"{who}: must be given a function or a module of Flax or Equinox, got {given!r}.")
    return Functions(who, given, init_fn, params, state)


class Tree:
    """A tree of arrays as variables of a layer; what is no array, such as a function, stays as it is.

    Args:
        layer: the layer.
        name: what the names of the variables begin with.
        values: the tree.
        trainable: whether arrays of floats are trained.
    """

    def __init__(self, layer: Layer, name: str, values: Any, trainable: bool):
        self._who = f'{type(layer).__name__} "{layer.name}": {name}'
        paths, self._form = tree_util.tree_flatten_with_path(values)
        self._leaves = [self._variable(layer, name, path, leaf, trainable) for path, leaf in paths]
        self._keys = [_is_key(leaf) for _, leaf in paths]

    def _variable(self, layer: Layer, name: str, path: Any, leaf: Any, trainable: bool) -> Any:
        parts = [str(getattr(each, "key", getattr(each, "name", getattr(each, "idx", "")))) for each in path]
        full = "_".join([name, *parts])
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return layer.add_weight(leaf.shape, "zeros", leaf.dtype.name, trainable, autocast=False, name=full)
        if not hasattr(leaf, "dtype") and not isinstance(leaf, (int, float, complex)):
            return leaf
        value = jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)
        return layer.add_weight(
            value.shape, lambda shape, dtype: value, value.dtype.name, name=full,
            trainable=trainable and jnp.issubdtype(value.dtype, jnp.inexact), autocast=False,
        )  # fmt: skip

    def __deepcopy__(self, memo: Any) -> Self:
        other = copy.copy(self)
        other._leaves = copy.deepcopy(self._leaves, memo)
        return other  # the form is the same: it may hold things that are told by identity

    @property
    def variables(self) -> Any:
        """The tree with variables where it has arrays."""
        return tree_util.tree_unflatten(self._form, self._leaves)

    @property
    def values(self) -> Any:
        """The tree with the arrays of now."""
        leaves = [leaf.value if isinstance(leaf, Variable) else leaf for leaf in self._leaves]
        leaves = [jax.random.wrap_key_data(leaf) if key else leaf for leaf, key in zip(leaves, self._keys)]
        return tree_util.tree_unflatten(self._form, leaves)

    def assign(self, values: Any) -> None:
        """Assign the arrays of a tree of the same form."""
        leaves, form = tree_util.tree_flatten(values)
        if form != self._form:
            raise ValueError(f"{self._who}: must stay of the form that it had at first, {self._form}, got {form}.")
        for leaf, value in zip(self._leaves, leaves):
            if isinstance(leaf, Variable):
                leaf.assign(jax.random.key_data(value) if _is_key(value) else value)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


class JaxLayer(Layer):
    """A function of JAX, or a module of Flax or Equinox, as a layer.

    Args:
        call_fn: a function of what it names of `params, state, rng, inputs, training` that returns the outputs, or
            `(outputs, state)` if it takes `state`; a plain `apply(params, inputs)`; or a module, or `(module, state)`
            of Equinox. To open a file takes `custom_objects={"the layer's name": module}`.
        init_fn: a function of what it names of `rng, inputs, training` that returns `params`, or `(params, state)`;
            or a plain `init(rng, inputs)`.
        params, state: trees of arrays to start from, instead of `init_fn`; of a module of Equinox with a state, that.
        seed: of `rng`.
        native_serialization_platforms: kept for Keras programs.

    Shapes: what the function makes of them. A module of Equinox is of one sample, and is mapped over the batch.

    Raises: ValueError if the functions take other arguments, or `params` come from nowhere.

    >>> layer = layers.JaxLayer(lambda params, inputs: inputs * params["scale"], params={"scale": np.float32(3)})
    >>> layer(np.ones((1, 2), "float32")).tolist(), len(layer.trainable_variables)
    ([[3.0, 3.0]], 1)
    """

    def __init__(
        self,
        call_fn: Any,
        init_fn: Callable | None = None,
        params: Any = None,
        state: Any = None,
        seed: Any = None,
        native_serialization_platforms: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.call_fn, self.init_fn = call_fn, init_fn
        self.native_serialization_platforms = native_serialization_platforms
        params, state = (tree_util.tree_map(_declared, part) for part in (params, state))
        self._compute_with(source_of(self._who(), call_fn, init_fn, params, state), seed)

    def _compute_with(self, source: Source, seed: Any) -> None:
        self._source = source
        self._params: Tree | None = None
        self._state: Tree | None = None
        self.seed_generator = SeedGenerator(seed) if source.draws else None
        first = source.first()
        if first is not None:
            self._keep(*first)
            self.built = True

    def _keep(self, params: Any, state: Any) -> None:
        self._params = None if params is None else Tree(self, "params", params, True)
        self._state = None if state is None else Tree(self, "state", state, False)

    @property
    def params(self) -> Any:
        """The parameters, a tree of variables."""
        return self._params and self._params.variables

    @property
    def state(self) -> Any:
        """The state, a tree of variables."""
        return self._state and self._state.variables

    def build(self, input_shape: Any) -> None:
        one = tree.map_shape_structure(
            lambda shape: jnp.zeros([1 if n is None else n for n in shape], self.compute_dtype), input_shape
        )
        self._keep(*self._source.init(self._key(), one, True))

    def _key(self) -> Any:
        return None if self.seed_generator is None else self.seed_generator.next()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        params, state = (each and each.values for each in (self._params, self._state))
        out, after = self._source.apply(params, state, self._key(), inputs, bool(training))
        if self._state is not None:
            self._state.assign(after)
        return out

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "call_fn": _form(self.call_fn, self.name)}
        config["init_fn"] = _form(self.init_fn, self.name)
        if isinstance(self._source, Functions) and self.init_fn is None:  # the file has to say what there is
            parts = {"params": self.params, "state": self.state}
            config |= {name: tree_util.tree_map(_declaration, part) for name, part in parts.items() if part is not None}
        return config


class FlaxLayer(JaxLayer):
    """A module of Flax, of `linen` or `nnx`, as a layer.

    A module is called with `training`, `train` or `deterministic`, if it has such an argument; one of `nnx` is set to
    train or to evaluate as well. What it draws, and what statistics it keeps, is state that is saved.

    Args:
        module: the module. To open a file takes `custom_objects={"the layer's name": module}`, unless its class is
            registered and has `get_config`.
        method: of a module of `linen`, its name or the function; `__call__` if not given.
        variables: of a module of `linen`, to start from; `module.init` makes them if not given.

    Shapes: what the module makes of them.

    Raises: TypeError if `module` is no module.
    """

    def __init__(self, module: Any, method: Any = None, variables: Any = None, **kwargs: Any):
        seed = kwargs.pop("seed", None)
        Layer.__init__(self, **kwargs)
        self.module, self.method = module, method
        self._compute_with(source_of(self._who(), module, None, variables, None, method), seed)

    @property
    def params(self) -> Any:
        """The parameters, a tree of variables; as `variables` has them, of a module of `linen`."""
        inner = super().params
        return {"params": inner} if inner and isinstance(self._source, Linen) else inner

    def get_config(self) -> dict[str, Any]:
        method = getattr(self.method, "__name__", self.method)
        if method is not None and not hasattr(type(self.module), method):  # a function of the program
            method = _form(self.method, self.name)
        return {**Layer.get_config(self), "module": _form(self.module, self.name), "method": method}


def _declaration(variable: Any) -> str:
    """A variable in a configuration, such as `"float32[3, 2]"`."""
    return f"{variable.dtype}{list(variable.shape)}"


def _declared(leaf: Any) -> Any:
    """What a configuration declares, as a leaf without values; all else as it is."""
    if not isinstance(leaf, str):
        return leaf
    dtype, _, sizes = leaf.rstrip("]").partition("[")
    return jax.ShapeDtypeStruct([int(size) for size in sizes.split(",") if size.strip()], jnp.dtype(dtype))


def _form(value: Any, name: str) -> Any:
    """A function or module in a configuration: what has no name of its own goes by the layer's."""
    if value is None or hasattr(value, "get_config"):
        return configurable.serialize(value)
    if inspect.isfunction(value):
        return by_name(configurable.serialize(value))
    return Live(value, class_name="function", module="builtins", config=name, registered_name=name)
