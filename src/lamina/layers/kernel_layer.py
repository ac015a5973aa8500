"""`KernelLayer`: a layer whose main weight is a kernel of some kind, which may change: by LoRA, by quantization."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lamina import initializers, quantizers
from lamina.core import checks, scope
from lamina.core.policy import get_policy
from lamina.core.variable import Variable
from lamina.layer import Layer
from lamina.layer.parts import Before, look_again
from lamina.layer.policies import weights_changed
from lamina.layers.kernels import Kernel, LowRank, Place, Terms
from lamina.quantizers import configs


class KernelLayer(Layer):
    """A layer with a kernel.

    A subclass says how its product goes (`_product`, linear in inputs and kernel, and `_product_axes`), which kinds of
    kernel there may be (`_kinds`, each class for itself), and asks the kernel for the product, or for rows.
    """

    _not_parts = Layer._not_parts | {"_kernel", "quantization_config"}
    _kernel: Any = None  # the `Kernel`, once it is made
    _kinds: Mapping[str, type[Kernel]] = {}  # mode -> kind
    _product_axes: Any = Terms("", "", "")
    _splits: Any = False  # whether the product with `a @ b` is that with `a`, times `b`
    _name_of_zeros = "kernel_zero"  # of a calibrated kernel
    lora_rank: int | None = None
    lora_alpha: Any = None
    quantization_config: Any = None

    def _set_kind(self, lora_rank: Any, lora_alpha: Any, quantization_config: Any = None) -> None:
        """Keep the arguments that say what kind of kernel there is to be."""
        self.lora_rank = None if lora_rank is None else checks.integer(self._who, "lora_rank", lora_rank)
        alpha = lora_rank if lora_alpha is None else checks.positive(self._who, "lora_alpha", lora_alpha)
        self.lora_alpha = None if lora_rank is None else alpha
        self.quantization_config = quantizers.get(quantization_config)

    def _product(self, inputs: Any, kernel: Any) -> Any:
        raise NotImplementedError

    def _make_kernel(self, shape: Sequence[Any], name: str = "kernel", **options: Any) -> None:
        """Make a kernel of the kind that the dtype policy says."""
        policy = self._own_policy()
        kind = self._kinds.get(self.quantization_mode or "", Kernel)
        history = getattr(policy, "amax_history_length", 1024)
        how = (self._product_axes, self._product, self._splits, history, self._name_of_zeros)
        place = Place(self, name, tuple(shape), options, *how)
        config = None
        if kind.mode is not None:
            config = configs.config_of(policy, self.quantization_config)
            configs.resolve(self._who(), kind.mode, config)
        kernel = kind(place, config)
        kernel.build()
        self._kernel = kernel
        self._show(kernel)

    def _show(self, kernel: Kernel) -> None:
        """Make attributes of the kernel's variables, but for that which the layer's own property is."""
        for name, variable in kernel.held.items():
            if name != kernel.place.name:
                setattr(self, name, variable)

    @contextmanager
    def _changing(self, mode: str) -> Iterator[None]:
        """All goes well, or the layer stays as it was."""
        before, around = Before(self), tuple(self.path.split("/")[:-1])
        trainable = [(v, v.trainable) for v in self._kernel.held.values()]
        try:
            with scope.names(around), self._naming():
                yield
        except BaseException as error:
            for variable, was in trainable:
                variable.trainable = was
            self._leave(error, mode, before)
            raise
        look_again()
        weights_changed()

    # LoRA -------------------------------------------------------------------------------------------------------

    @property
    def lora_enabled(self) -> bool:
        """Whether the kernel is frozen, and a product of low rank is learned beside it."""
        return isinstance(self._kernel, LowRank)

    def enable_lora(
        self, rank: int, lora_alpha: Any = None, a_initializer: Any = "he_uniform", b_initializer: Any = "zeros"
    ) -> None:
        """Freeze the kernel, and learn a product of low rank beside it: `kernel + lora_alpha / rank * a @ b`.

        Files hold the sum. Hu et al. 2021, https://arxiv.org/abs/2106.09685

        Args:
            rank: the size between `a` and `b`.
            lora_alpha: how much the product counts; `rank` if not given.
            a_initializer, b_initializer: what `a` and `b` start from.

        Raises: ValueError if the layer is not built, has LoRA already or a constraint, or an argument is no such thing.
        """
        who = self._who()
        rank = checks.integer(who, "rank", rank)
        alpha = rank if lora_alpha is None else checks.positive(who, "lora_alpha", lora_alpha)
        if not self.built:
            raise ValueError(f"{who}: must be built before enable_lora; call it on data or call build() first.")
        if self.lora_enabled:
            raise ValueError(f"{who}: enable_lora must be called once, got rank={rank} besides {self.lora_rank}.")
        if self._kernel is None or self._kernel.after_bias:
            what = "its weights" if self._kernel is None else f"a kernel of mode {self._kernel.mode!r}"
            raise NotImplementedError(f"{who}: enable_lora has no form for {what}.")
        with self._changing("enable_lora"):
            self._add_low_rank(rank, alpha, (initializers.get(a_initializer), initializers.get(b_initializer)))

    def _add_low_rank(self, rank: int, alpha: Any, starts: tuple[Any, Any] = ("he_uniform", "zeros")) -> None:
        name = self._kernel.place.name
        if getattr(self, f"{name}_constraint", None) is not None:
            raise ValueError(f"{self._who()}: {name}_constraint must be None with LoRA, which changes a sum of arrays.")
        self._kernel = LowRank(self._kernel, rank, alpha, starts)
        self.lora_rank, self.lora_alpha = rank, alpha
        self._show(self._kernel)

    # Quantization -----------------------------------------------------------------------------------------------

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Make integers, or floats of 8 bits, of the kernel.

        Args:
            mode: "int8", "int4", "float8", "gptq" or "awq", or a configuration.
            type_check: whether a subclass that does not say its kinds is refused: its `call` may use the kernel itself.
            config: a `lamina.quantizers.QuantizationConfig`.

        Raises: ValueError if the layer is not built or is quantized already, or the mode is none; NotImplementedError
            if the layer has no form for the mode.
        """
        who = self._who()
        resolved = configs.resolve(who, mode, config)
        mode = resolved.mode
        self._kind(mode, not type_check or "_kinds" in vars(type(self)))
        if not self.built:
            raise ValueError(f"{who}: must be built before quantize; call it on data or call build() first.")
        if self._kernel.mode is not None:
            raise ValueError(f"{who}: must be quantized once, got mode={mode!r} besides {self._kernel.mode!r}.")
        source = getattr(self._own_policy(), "source_name", self._own_policy().name)
        policy = get_policy(f"{resolved.dtype_policy_string()}_from_{source}")
        with self._changing("quantize"):
            self.quantized_build(self._kernel.place.shape, mode, resolved)
            self.quantization_config = resolved
            if self.quantization_mode is None:
                self._set_policy(policy)

    def quantized_build(self, input_shape: Any, mode: str, config: Any = None) -> None:
        """Make the variables of a quantized kernel, with the values of the kernel that there is.

        Args:
            input_shape: that of the kernel.
            mode: the mode.
            config: the configuration.
        """
        del input_shape
        old, resolved = self._kernel, configs.resolve(self._who(), mode, config)
        under = old.base if isinstance(old, LowRank) else old
        new = self._kind(resolved.mode)(under.place, resolved)
        if isinstance(old, LowRank) and new.after_bias:
            raise NotImplementedError(f"{self._who()}: mode {mode!r} has no form for a kernel with LoRA.")
        new.build(under)
        self._drop(v for v in under.held.values() if not any(v is other for other in new.held.values()))
        self._kernel = old.on(new) if isinstance(old, LowRank) else new
        self._show(self._kernel)

    def _kind(self, mode: str, says: bool = True) -> type[Kernel]:
        """The kind of kernel for a mode; a class that does not say its kinds has none."""
        if mode not in self._kinds or not says:
            known = f"it has those for {', '.join(self._kinds)}" if self._kinds else "its kernel stays floats"
            raise NotImplementedError(f"{self._who()}: has no form for mode {mode!r}; {known}.")
        return self._kinds[mode]

    def _drop(self, variables: Iterable[Variable]) -> None:
        gone = {id(variable) for variable in variables}
        self.__dict__["_weights"] = [v for v in self.__dict__["_weights"] if id(v) not in gone]

    def _follow_policy(self, policy: Any) -> None:
        if policy.quantization_mode in self._kinds:
            self.quantize(config=configs.config_of(policy, None))

    # Files ------------------------------------------------------------------------------------------------------

    def _own_variables(self) -> list[Variable]:
        """The variables that files hold, in their order."""
        every = super()._own_variables()
        if self._kernel is None:
            return every
        held = {id(v) for v in self._kernel.held.values()}
        others = [v for v in every if id(v) not in held]  # the bias, and what a subclass made
        first, *rest = self._kernel.variables.values()
        if self._kernel.place.is_table:  # which has no bias, but perhaps another kernel behind it
            return [first, *rest, *others]
        return [*others, first, *rest] if self._kernel.after_bias else [first, *others, *rest]

    def save_own_variables(self, store: Any) -> None:
        """Write what files hold: with LoRA, the sum."""
        if self._kernel is None:
            return super().save_own_variables(store)
        values = {id(self._kernel.variables[name]): x for name, x in self._kernel.in_files().items()}
        for i, variable in enumerate(self._own_variables()):
            store[str(i)] = values[id(variable)] if id(variable) in values else variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote; what LoRA adds is nothing from then on."""
        super().load_own_variables(store)
        if self._kernel is not None:
            before = self._kernel.held
            self._kernel.loaded()
            self._drop(v for name, v in before.items() if name not in self._kernel.held)


def kernel_of(layer: Any) -> Any:
    """The kernel of a layer, `None` if it has none."""
    return layer._kernel if isinstance(layer, KernelLayer) and layer.built else None


def calibrate(layer: Any) -> None:
    """Make integers of the floats of a layer's kernel, by what it saw of its inputs."""
    kernel = layer._kernel
    floats = kernel.waiting
    kernel.calibrate()
    layer._drop([floats])
    look_again()
    weights_changed()
