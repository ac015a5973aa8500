"""How a layer or a model is to be quantized: a class for each mode."""

from collections.abc import Mapping
from typing import Any

from lamina.core import checks, configurable
from lamina.core.configurable import Configurable, variant
from lamina.core.policy import check_mode
from lamina.quantizers.integers import AbsMaxQuantizer


class QuantizationConfig(Configurable):
    """How weights and activations become integers; a subclass says its `mode`.

    Args:
        weight_quantizer: makes integers of weights.
        activation_quantizer: makes integers of inputs; `None` leaves them floats.
    """

    mode: str = ""  # that of a subclass

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None):
        self.weight_quantizer = configurable.make("quantizers", weight_quantizer, "weight_quantizer")
        self.activation_quantizer = configurable.make("quantizers", activation_quantizer, "activation_quantizer")

    def dtype_policy_string(self) -> str:
        """What the names of dtype policies call this."""
        return self.mode

    def _check_weights(self, value_range: tuple[int, int] | None) -> None:
        """The integers of weights must be those that the mode keeps."""
        quantizer = self.weight_quantizer
        if quantizer is None:
            return
        for name, rule in (("output_dtype", "int8"), ("value_range", value_range)):
            given = getattr(quantizer, name, None)
            if rule is not None and given != rule:
                raise ValueError(f"{type(self).__name__}: weight_quantizer must have {name} {rule!r}, got {given!r}.")


def _or_default(given: Any, default: Any) -> Any:
    return default if isinstance(given, str) and given == "default" else given


class Int8QuantizationConfig(QuantizationConfig):
    """Weights of 8 bits with a scale for each output, and inputs of 8 bits with a scale for each row.

    Args:
        weight_quantizer: of the weights; `AbsMaxQuantizer` over the inputs' axes if not given.
        activation_quantizer: of the inputs, "default" for `AbsMaxQuantizer()`; `None` leaves them floats.

    Raises: ValueError if the weights' integers are not int8.
    """

    mode = "int8"

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = "default"):
        super().__init__(weight_quantizer, _or_default(activation_quantizer, AbsMaxQuantizer()))
        self._check_weights(None)


class Int4QuantizationConfig(QuantizationConfig):
    """Weights of 4 bits, two in a byte, with a scale for each output or for each block of inputs.

    Args:
        weight_quantizer: of the weights, if there are no blocks.
        activation_quantizer: of the inputs, if there are no blocks; "default" leaves them floats.
        block_size: the inputs in a block, which has a zero too; `None` or -1 for one scale for each output.

    Raises: ValueError if arguments do not fit one another.
    """

    mode = "int4"

    def __init__(
        self, weight_quantizer: Any = None, activation_quantizer: Any = "default", block_size: int | None = 128
    ):
        super().__init__(weight_quantizer, _or_default(activation_quantizer, None))
        who = type(self).__name__
        self.block_size = block_size if block_size in (None, -1) else checks.integer(who, "block_size", block_size)
        if self.blocks and (self.weight_quantizer or self.activation_quantizer):
            raise ValueError(f"{who}: block_size must be None or -1 with quantizers of one's own, got {block_size}.")
        self._check_weights((-8, 7))

    blocks = property(lambda self: max(self.block_size or 0, 0), doc="The inputs in a block, 0 without blocks.")

    def dtype_policy_string(self) -> str:
        return f"int4/{self.blocks or -1}"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """As ever; files from before blocks have none."""
        return super().from_config({"block_size": None, **config})


class Float8QuantizationConfig(QuantizationConfig):
    """Products of 8-bit floats, in training too; weights stay as they are."""

    mode = "float8"

    def __init__(self) -> None:
        super().__init__()


class CalibratedConfig(QuantizationConfig):
    """Weights that are quantized beside the inputs which a dataset brings them.

    Args:
        dataset: strings, or arrays of tokens.
        tokenizer: has `tokenize`, or is a function, that makes tokens of strings; not needed for tokens.
        weight_bits: 4, for GPTQ 2, 3 or 8 too.
        num_samples: how many sequences are run.
        per_channel: whether outputs have scales of their own.
        sequence_length: of each sequence.
        hessian_damping: what is added to the diagonal of the inputs' second moments, in parts of its mean.
        group_size: the inputs that share a scale; -1 for all.
        symmetric: whether the range of the integers is symmetric about 0.
        activation_order: whether the inputs that matter most are rounded first.
        num_grid_points: how many exponents of the inputs' sizes are tried as scales.
        quantization_layer_structure: `{"pre_block_layers": [...], "sequential_blocks": [...]}`; what the model's
            `get_quantization_layer_structure` says if not given.
    """

    known_bits: tuple[int, ...] = (4,)

    def __init__(
        self,
        dataset: Any,
        tokenizer: Any,
        *,
        weight_bits: int = 4,
        num_samples: int = 128,
        per_channel: bool = True,
        sequence_length: int = 512,
        hessian_damping: float = 0.01,
        group_size: int = 128,
        symmetric: bool = False,
        activation_order: bool = False,
        num_grid_points: int = 20,
        quantization_layer_structure: dict[str, Any] | None = None,
    ):
        super().__init__()
        who = type(self).__name__
        self.dataset, self.tokenizer = dataset, tokenizer
        self.weight_bits = checks.one_of(who, "weight_bits", weight_bits, self.known_bits)
        self.num_samples = checks.integer(who, "num_samples", num_samples)
        self.sequence_length = checks.integer(who, "sequence_length", sequence_length)
        self.group_size = -1 if group_size == -1 else checks.integer(who, "group_size", group_size)
        if quantization_layer_structure is not None:
            check_structure(who, quantization_layer_structure)
        self.quantization_layer_structure = quantization_layer_structure
        self.hessian_damping = checks.number(who, "hessian_damping", hessian_damping, 0, 1)
        self.per_channel, self.symmetric, self.activation_order = per_channel, symmetric, activation_order
        self.num_grid_points = checks.integer(who, "num_grid_points", num_grid_points)

    def dtype_policy_string(self) -> str:
        return f"{self.mode}/{self.weight_bits}/{self.group_size}"

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        once = ("dataset", "tokenizer", "quantization_layer_structure")  # what calibration needs, and nobody afterwards
        return None if name in once else super()._argument(owner, name, recorded)


@variant(without=["num_grid_points"])
class GPTQConfig(CalibratedConfig):
    """Weights rounded one input after the other, the rest making good the error.

    Frantar et al. 2022, https://arxiv.org/abs/2210.17323
    """

    mode, known_bits = "gptq", (2, 3, 4, 8)


@variant(without=["per_channel", "hessian_damping", "symmetric", "activation_order"])
class AWQConfig(CalibratedConfig):
    """Weights of 4 bits, scaled before so that those of large inputs round finest.

    Lin et al. 2023, https://arxiv.org/abs/2306.00978
    """

    mode = "awq"


_OF_MODE: dict[Any, type[QuantizationConfig]] = {
    "int8": Int8QuantizationConfig, "int4": Int4QuantizationConfig, "float8": Float8QuantizationConfig,
    "gptq": GPTQConfig, "awq": AWQConfig,
}  # fmt: skip


def check_structure(who: str, structure: Any) -> None:
    """The order in which calibration runs through a model."""
    blocks = structure.get("sequential_blocks") if isinstance(structure, Mapping) else None
    rule = "quantization_layer_structure must be a dict with 'pre_block_layers' and at least one of 'sequential_blocks'"
    checks.require(blocks, who, rule, got=checks.shorten(structure))


def resolve(who: str, mode: Any, config: Any) -> QuantizationConfig:
    """The configuration that a mode, a configuration or both mean; `who` is in errors."""
    if config is None and isinstance(mode, QuantizationConfig):
        mode, config = None, mode
    if isinstance(config, str):
        mode, config = config, None
    if mode is not None or config is None:
        check_mode(f"{who}.quantize", mode)
    if config is None:
        if issubclass(_OF_MODE[mode], CalibratedConfig):
            name = _OF_MODE[mode].__name__
            raise ValueError(f"{who}.quantize: config must be given with mode {mode!r}, as {name}(dataset, tokenizer).")
        return _OF_MODE[mode]()
    if not isinstance(config, QuantizationConfig):
        raise ValueError(f"{who}.quantize: config must be a QuantizationConfig, got {config!r}.")
    if mode not in (None, config.mode) or not isinstance(config, _OF_MODE[check_mode(who, config.mode)]):
        raise ValueError(f"{who}.quantize: mode must be that of its config, {config.mode!r}, got {mode!r}.")
    return config


def config_of(policy: Any, given: Any) -> QuantizationConfig:
    """The configuration of a layer that is made with a quantized dtype policy: what it is given, or what that says."""
    if given is not None:
        return given
    cls: Any = _OF_MODE[policy.quantization_mode]
    if cls is Int4QuantizationConfig:
        return cls(block_size=getattr(policy, "block_size", None))
    if issubclass(cls, CalibratedConfig):
        return cls(None, None, weight_bits=policy.weight_bits, group_size=policy.group_size)
    return cls()
