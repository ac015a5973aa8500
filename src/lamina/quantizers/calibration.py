"""GPTQ and AWQ: what they gather of a kernel's inputs, and the integers that they make of the kernel.

Matrices are (outputs, inputs) here, as in the papers. All is computed on the host.
"""

from typing import Any, NamedTuple

import numpy as np

from lamina.quantizers.integers import Affine


class Calibrated(NamedTuple):
    """A kernel as integers: `(codes - zero[groups]) * scale[groups] / smoothing`."""

    codes: np.ndarray  # (outputs, inputs)
    scale: np.ndarray  # (outputs, groups)
    zero: np.ndarray  # (outputs, groups)
    groups: np.ndarray  # (inputs,)
    smoothing: np.ndarray  # (inputs,)


def _scale_of(weights: np.ndarray, config: Any) -> Affine:
    """The scales and zeros, (outputs, 1), of the weights of one group of inputs."""
    axis, shape = 1 if config.per_channel else None, (len(weights), 1)
    least, most = (np.broadcast_to(end(axis, keepdims=True), shape) for end in (weights.min, weights.max))
    if not config.symmetric:
        return Affine.of(least, most, config.weight_bits)
    most = np.maximum(-least, most)
    affine = Affine.of(np.where(least < 0, -most, least), most, config.weight_bits)
    return affine._replace(zero=np.full_like(affine.zero, 2 ** (config.weight_bits - 1)))


def _group_size(config: Any, inputs: int) -> int:
    return inputs if config.group_size == -1 else config.group_size


class GPTQ:
    """Rounds one input's weights after the other; the error goes, by the inputs' second moments, to those that follow.

    Frantar et al. 2022, https://arxiv.org/abs/2210.17323, with the inverse of the moments itself where the paper has
    its Cholesky factor, as Keras.
    """

    block = 128  # inputs after whose rounding the errors go to all that follow

    def __init__(self, inputs: int):
        self.moments, self.count = np.zeros((inputs, inputs), "float32"), 0

    def see(self, inputs: np.ndarray) -> None:
        """Take (samples, inputs) into account."""
        self.moments += inputs.T @ inputs
        self.count += len(inputs)

    def quantized(self, weights: np.ndarray, config: Any) -> Calibrated:
        """The integers of (outputs, inputs)."""
        moments = self.moments * np.float32(2 / max(self.count, 1))
        diagonal = np.where(np.diag(moments) == 0, 1, np.diag(moments))  # inputs that never came
        diagonal = diagonal + np.float32(config.hessian_damping) * diagonal.mean()
        np.fill_diagonal(moments, diagonal)
        order = np.arange(len(diagonal))
        if config.activation_order:
            order = np.argsort(-diagonal, kind="stable")
        back = np.argsort(order)
        inverse = np.linalg.inv(moments)[order][:, order]
        codes, affines = self._rounded(weights[:, order].copy(), inverse, config)
        groups = (np.arange(len(order)) // _group_size(config, len(order)))[back]
        scale, zero = (np.concatenate(parts, 1) for parts in zip(*((a.scale, a.zero) for a in affines)))
        return Calibrated(codes[:, back], scale, zero, groups, np.ones(len(order), weights.dtype))

    def _rounded(self, weights: np.ndarray, inverse: np.ndarray, config: Any) -> tuple[np.ndarray, list[Affine]]:
        """The integers, and the scales of each group; `weights` change on the way."""
        inputs, size = weights.shape[1], _group_size(config, weights.shape[1])
        codes, affines = np.zeros_like(weights), []
        for start in range(0, inputs, self.block):
            end = min(start + self.block, inputs)
            rest, errors = weights[:, start:end].copy(), np.zeros_like(weights[:, start:end])
            for i in range(start, end):
                if i % size == 0:
                    affines.append(_scale_of(weights[:, i : i + size], config))
                column, at = rest[:, i - start, None], i - start
                codes[:, i, None] = affines[-1].encode(column)
                error = (column - affines[-1].decode(codes[:, i, None])) / inverse[i, i]
                errors[:, at, None] = error
                rest[:, at + 1 :] -= error * inverse[i, i + 1 : end]
            weights[:, end:] -= errors @ inverse[start:end, end:]
        return codes, affines


class AWQ:
    """Scales up the weights of large inputs before rounding, by that power of the inputs' size which errs least.

    Lin et al. 2023, https://arxiv.org/abs/2306.00978
    """

    def __init__(self, inputs: int):
        self.largest = np.zeros(inputs, "float32")

    def see(self, inputs: np.ndarray) -> None:
        """Take (samples, inputs) into account."""
        self.largest = np.maximum(self.largest, np.abs(inputs).max(0))

    def quantized(self, weights: np.ndarray, config: Any) -> Calibrated:
        """The integers of (outputs, inputs)."""
        sizes = np.where(self.largest < 1e-8, 1, self.largest)
        best, least = None, np.inf
        for i in range(config.num_grid_points + 1):
            smoothing = np.maximum(sizes ** np.float32(i / config.num_grid_points), np.float32(1e-4))
            smoothing = smoothing / max(np.sqrt(smoothing.max() * smoothing.min()), np.float32(1e-8))
            tried, meant = self._rounded(weights * smoothing, config)
            loss = np.mean(np.square((weights - meant / smoothing) * sizes))
            if best is None or loss < least:
                best, least = tried._replace(smoothing=smoothing), loss
        assert best is not None
        return best

    def _rounded(self, weights: np.ndarray, config: Any) -> tuple[Calibrated, np.ndarray]:
        """The integers of scaled weights, and what they mean."""
        inputs, size = weights.shape[1], _group_size(config, weights.shape[1])
        groups = np.arange(inputs) // size
        padded = np.pad(weights, ((0, 0), (0, -inputs % size)))
        each = [_scale_of(padded[:, i : i + size], config) for i in range(0, inputs, size)]
        scale, zero = (np.concatenate(parts, 1) for parts in zip(*((a.scale, a.zero) for a in each)))
        wide = each[0]._replace(scale=scale[:, groups], zero=zero[:, groups])
        codes = wide.encode(weights)
        return Calibrated(codes, scale, zero, groups, np.ones(inputs, weights.dtype)), wide.decode(codes)
