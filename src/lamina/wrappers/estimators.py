"""`SKLearnClassifier`, `SKLearnRegressor`, `SKLearnTransformer`: models as scikit-learn's estimators."""

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.core import checks
from lamina.core.later import Later
from lamina.models import Model, clone_model

if TYPE_CHECKING:
    import sklearn
    import sklearn.base
    import sklearn.utils.metadata_routing
    import sklearn.utils.metaestimators
    import sklearn.utils.multiclass
    import sklearn.utils.validation
else:
    sklearn = Later(
        "sklearn.base", "sklearn.utils.metadata_routing", "sklearn.utils.metaestimators",
        "sklearn.utils.multiclass", "sklearn.utils.validation", install="scikit-learn",
    )  # fmt: skip


class _Wrapper(sklearn.base.BaseEstimator):
    """What the wrappers have in common.

    Args:
        model: a compiled model, whose copies with fresh weights are trained; or `f(X=, y=, **model_kwargs)` that makes
            one.
        warm_start: whether `fit` goes on with the model that it has, the given one first.
        model_kwargs: what `model` is given besides.
        fit_kwargs: arguments of the model's `fit`; those of a call go before.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__doc__ = f"{cls.__doc__ or cls.__name__}\n\n    {_ARGUMENTS}"

    def __init__(
        self,
        model: Any,
        warm_start: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        fit_kwargs: dict[str, Any] | None = None,
    ):
        self.model, self.warm_start = model, warm_start
        self.model_kwargs, self.fit_kwargs = model_kwargs, fit_kwargs

    def __sklearn_tags__(self) -> Any:
        tags: Any = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags

    def __sklearn_clone__(self) -> Any:
        given = {name: copy.deepcopy(value) for name, value in self.get_params(deep=False).items()}
        return type(self)(**given)

    def set_params(self, **params: Any) -> Any:
        """Set arguments of the constructor; `model_kwargs__units=3` sets one item of a dict."""
        own: dict[str, Any] = {}
        for key, value in params.items():
            name, _, item = key.partition("__")
            if item and name in ("model_kwargs", "fit_kwargs"):
                own[name] = {**(own.get(name, getattr(self, name)) or {}), item: value}
            else:
                own[key] = value
        return super().set_params(**own)

    def set_fit_request(self, **kwargs: Any) -> Any:
        """Say which metadata `fit` is to get: `name=True`, `False`, `None` or another name for it."""
        if not sklearn.get_config().get("enable_metadata_routing"):
            raise RuntimeError(
                f"{type(self).__name__}.set_fit_request: metadata routing must be enabled; call "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self._metadata_request = sklearn.utils.metadata_routing.MetadataRequest(owner=type(self).__name__)
        for name, alias in kwargs.items():
            self._metadata_request.fit.add_request(param=name, alias=alias)
        return self

    @property
    def epoch_(self) -> int:
        """The number of epochs of the last `fit`."""
        return len(self.history_.epoch) if hasattr(self, "history_") else 0

    def fit(self, X: Any, y: Any, **kwargs: Any) -> Any:
        """Train the model; it is `model_` then, and its history `history_`.

        Args:
            X: the inputs, (samples, features).
            y: the targets, (samples,) or (samples, outputs).
            kwargs: arguments of the model's `fit`.

        Raises: RuntimeError if the model is not compiled, ValueError for data of the wrong kind.
        """
        shape = () if y is None else np.asarray(y).shape
        several = len(shape) == 2 and shape[1] > 1
        X, y = sklearn.utils.validation.validate_data(self, X, y, multi_output=several)  # type: ignore[arg-type]
        kind = sklearn.utils.multiclass.type_of_target(y, input_name="y")
        if kind == "unknown":
            raise ValueError(f"Unknown label type: y of {type(self).__name__} must be numbers or labels, got {y!r}")
        targets = self._targets(y, kind)
        model = self._model_for(X, targets)
        self.history_ = model.fit(X, targets, **{**(self.fit_kwargs or {}), **kwargs})
        self.model_, self._is_flat = model, y.ndim == 1
        return self

    def _model_for(self, X: Any, y: Any) -> Any:
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        if isinstance(self.model, Model):
            model: Any = self.model if self.warm_start else clone_model(self.model)
        elif callable(self.model):
            model = self.model(X=X, y=y, **(self.model_kwargs or {}))
        else:
            raise ValueError(f"{type(self).__name__}: model must be a Model or make one, got {self.model!r}.")
        if not (getattr(model, "compiled", False) and model.loss and model.optimizer):
            raise RuntimeError(f"{type(self).__name__}: model must be compiled with a loss and an optimizer.")
        return model

    def _targets(self, y: Any, kind: str) -> Any:
        """What the model is trained on, (samples, outputs)."""
        return y[:, None] if y.ndim == 1 else y

    def _outputs(self, X: Any) -> Any:
        sklearn.utils.validation.check_is_fitted(self)
        X = sklearn.utils.validation.validate_data(self, X, reset=False)
        return self.model_.predict(X, batch_size=(self.fit_kwargs or {}).get("batch_size"), verbose=0)

    def predict(self, X: Any) -> Any:
        """What the model says of each sample, in the form of the targets."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._is_flat and outputs.ndim == 2 and outputs.shape[1] == 1 else outputs


_ARGUMENTS = (_Wrapper.__doc__ or "").partition("\n\n")[2].strip()


class SKLearnClassifier(sklearn.base.ClassifierMixin, _Wrapper):
    """A classifier for scikit-learn.

    The model is trained on one column for each class (1 in that of the label), or on those of targets with several
    labels each, and must have as many outputs. `classes_` are the labels in the order of the columns.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags

    def _targets(self, y: Any, kind: str) -> Any:
        kinds = ("binary", "multiclass", "multilabel-indicator")
        if kind not in kinds:
            raise ValueError(
                f"Unknown label type: y of {type(self).__name__} must be {' or '.join(kinds)} and not continuous, "
                f"got {kind}. Only binary and multiclass target types are supported, and several labels of a sample."
            )
        if kind == "multilabel-indicator":
            self.classes_ = np.arange(y.shape[1])
            return y.astype("float32")
        self.classes_, numbers = np.unique(y, return_inverse=True)
        several, remedy = len(self.classes_) > 1, "Classifier can't train when only one class is present"
        checks.require(several, self, "y must have two classes at least", got="one", remedy=remedy)
        return np.eye(len(self.classes_), dtype="float32")[numbers.reshape(-1)]

    @property
    def _gives_logits(self) -> bool:
        loss: Any = self.model_.loss
        return bool(getattr(loss, "from_logits", False))

    def decision_function(self, X: Any) -> Any:
        """The model's outputs, a column for each of `classes_`."""
        return self._outputs(X)

    # Only a model that is there has probabilities; scikit-learn would ask others for a single column of scores.
    @sklearn.utils.metaestimators.available_if(lambda self: hasattr(self, "model_"))
    def predict_proba(self, X: Any) -> Any:
        """The probability of each class: the outputs, or what they become where the loss takes logits."""
        outputs = np.asarray(self._outputs(X), "float64")
        if not self._is_flat:
            return 1 / (1 + np.exp(-outputs)) if self._gives_logits else outputs
        if self._gives_logits:
            outputs = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return outputs / outputs.sum(axis=-1, keepdims=True)

    def predict(self, X: Any) -> Any:
        """The label with the largest output; or each with an output above a half, where a sample has several."""
        outputs = self._outputs(X)
        if not self._is_flat:
            return (outputs > (0.0 if self._gives_logits else 0.5)).astype(int)
        rule = f"model must have an output for each of {len(self.classes_)} classes"
        checks.require(outputs.shape[-1] == len(self.classes_), self, rule, outputs.shape[-1])
        return self.classes_[outputs.argmax(axis=-1)]


class SKLearnRegressor(sklearn.base.RegressorMixin, _Wrapper):
    """A regressor for scikit-learn, of one target or several."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


class SKLearnTransformer(sklearn.base.TransformerMixin, _Wrapper):
    """A transformer for scikit-learn: a model, trained on targets, whose outputs are features for what follows."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def transform(self, X: Any) -> Any:
        """The model's outputs."""
        return self._outputs(X)
