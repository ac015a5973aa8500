"""`Loss`: what turns the losses of the samples into one number, with sample weights and masks."""

import inspect
from collections.abc import Callable
from typing import Any

from lamina.core import checks, configurable, dtypes, functions, masking, policy, scope, tree
from lamina.core.arrays import as_array
from lamina.core.configurable import Configurable
from lamina.losses.weighting import align, reduce_weighted


class Named(Configurable):
    """What losses and metrics have in common: a name, and configurations that are those of Keras."""

    name: str

    @property
    def _who(self) -> str:
        return f'{type(self).__name__} "{self.name}"'

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        value = super()._argument(owner, name, recorded)
        if name == "fn":
            return configurable.serialize(value)
        if name not in self._omit_none:
            return value
        # Files of Keras have no key for it: while it has its default it is left out, so that nothing is lost.
        parameter = inspect.signature(owner.__init__).parameters.get(name)
        default = dtypes.floatx() if name == "dtype" else parameter and parameter.default
        return None if value == default else value


class Loss(Named):
    """`reduce(call(y_true, y_pred) · sample_weight)`; a subclass defines `call`.

    Args:
        name: the snake case of the class name if not given.
        reduction: `"sum_over_batch_size"` or `"mean"` (sum divided by the number of losses), `"sum"`,
            `"mean_with_sample_weight"` (sum divided by the sum of the weights), `"none"` or `None`.
        dtype: what is computed in, a dtype or a policy; the default float dtype if not given.

    Shapes:
        `y_true`, `y_pred`: arrays `(batch, ...)` or structures of them, as `call` takes them;
        `sample_weight`: a number, or the first axes of the losses, such as `(batch,)`; result: `()`, or the losses if
        they are not reduced.

    Raises:
        ValueError: for a reduction that is not known, and when called with weights that do not fit.
    """

    _omit_none = frozenset({"dtype"})
    dtype: str = "float32"
    _keeps_integers = False  # whether `call` gets integer targets as they are

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        self.name = name or scope.unique_name(scope.snake_case(type(self).__name__))
        reductions = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)
        self.reduction = checks.one_of(self._who, "reduction", reduction, reductions)
        self.dtype = policy.get_policy(dtype or dtypes.floatx()).compute_dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        mask = masking.get_mask(y_pred)
        y_true = _arrays(y_true, None if self._keeps_integers else self.dtype)
        losses = self.call(y_true, _arrays(y_pred, self.dtype))
        mask = masking.merge_masks((mask, masking.get_mask(losses)))
        return reduce_weighted(losses, sample_weight, mask, self.reduction, self.dtype, self._who)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses, one for each sample or for each place in it."""
        raise NotImplementedError(f"{type(self).__name__}: a subclass must define call.")

    def _base_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction}


class LossFunctionWrapper(Loss):
    """The loss of a function: `reduce(fn(y_true, y_pred, **kwargs) · sample_weight)`.

    Args:
        fn: called with the targets, the predictions, and `kwargs`.
        kwargs: further arguments of `fn`; each is kept as an attribute too.
    """

    def __init__(
        self,
        fn: Callable,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name, reduction, dtype)
        self.fn, self._fn_kwargs = fn, kwargs
        vars(self).update(kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        aligned = (tree.map_structure(lambda *pair, i=i: align(*pair)[i], y_true, y_pred) for i in (0, 1))
        return self.fn(*aligned, **self._fn_kwargs)


class LossOf(LossFunctionWrapper):
    """Base of the losses named by a function: `class Huber(LossOf, fn=huber, name="huber_loss"): ...`.

    The class statement makes the constructor and the docstring from those of `fn`. `order` is the order of the
    arguments, `*` those of `fn` behind `(y_true, y_pred)`; further keywords are other defaults than those of `fn`.
    """

    def __init_subclass__(
        cls, fn: Callable | None = None, order: str = "* reduction name dtype", **defaults: Any
    ) -> None:
        if fn is not None:
            base = {"reduction": "sum_over_batch_size", "name": getattr(fn, "__name__", None), "dtype": None}
            cls.__init__ = functions.constructor(cls, fn, order, base | defaults)
            cls.__doc__ = functions.documentation(cls, fn)
        super().__init_subclass__()

    def __init__(self, *args: Any, **kwargs: Any):  # of subclasses without `fn`, which give it here
        super().__init__(*args, **kwargs)


def _is_literal(x: Any) -> bool:
    """Whether `x` is a number or lists of numbers: one array, and not a structure of arrays."""
    return isinstance(x, (bool, int, float)) or (isinstance(x, (list, tuple)) and all(map(_is_literal, x)))


def _arrays(structure: Any, dtype: Any) -> Any:
    if _is_literal(structure):
        return as_array(structure, dtype)
    return tree.map_structure(lambda x: as_array(x, dtype), structure)


def target_kind(y_true: Any, y_pred: Any) -> str:
    """`"binary"`, `"sparse_categorical"` or `"categorical"`, as the shapes of a target and an output tell."""
    if y_pred.shape[-1:] == (1,):
        return "binary"
    if len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1:] == (1,):
        return "sparse_categorical"
    return "categorical"
