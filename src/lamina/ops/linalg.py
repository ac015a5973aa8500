"""`keras.ops.linalg`: decompositions and solutions, over the last two axes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.scipy import linalg as scipy_linalg

from lamina.core import checks
from lamina.core.symbolic import op
from lamina.ops.binding import bound, fractions


def _matrix(x: Any, who: str, square: bool = False) -> Any:
    x = jnp.asarray(x)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        raise ValueError(f"{who}: x must be {'square matrices' if square else 'matrices'}, got shape {x.shape}.")
    return x


@op
def cholesky(x: Any, upper: bool = False) -> Any:
    """The lower triangle L of x = L L^T, or the upper one of x = U^T U."""
    factor = jnp.linalg.cholesky(_matrix(x, "cholesky", square=True), upper=upper)
    if not isinstance(factor, Tracer) and jnp.isnan(factor).any():
        raise ValueError("cholesky: x must be positive definite.")
    return factor


@op
def cholesky_inverse(x: Any, upper: bool = False) -> Any:
    """The inverse of a matrix from its Cholesky factor `x`."""
    x = _matrix(x, "cholesky_inverse", square=True)
    unit = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    inverse = scipy_linalg.solve_triangular(x, unit, lower=not upper)
    return inverse @ inverse.mT if upper else inverse.mT @ inverse


det = bound(jnp.linalg.det, "x", "The determinant.", x=functools.partial(_matrix, who="det", square=True))
inv = bound(jnp.linalg.inv, "x", "The inverse.", x=functools.partial(_matrix, who="inv", square=True))


@op
def eig(x: Any) -> tuple[Any, ...]:
    """Eigenvalues and eigenvectors, complex."""
    return tuple(jnp.linalg.eig(_matrix(x, "eig", square=True)))


@op
def eigh(x: Any) -> tuple[Any, Any]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix."""
    return tuple(jnp.linalg.eigh(_matrix(x, "eigh", square=True)))


def jvp(fun: Callable, primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """`fun(*primals)` and its derivative in the direction of `tangents`."""
    return _jvp(fun, primals, tangents, has_aux)


@op
def _jvp(fun: Callable, primals: Any, tangents: Any, has_aux: bool) -> Any:
    return jax.jvp(fun, tuple(primals), tuple(tangents), has_aux=has_aux)


@op
def lstsq(a: Any, b: Any, rcond: float | None = None) -> Any:
    """The x that makes |a x - b| least."""
    return jnp.linalg.lstsq(jnp.asarray(a), jnp.asarray(b), rcond=rcond)[0]


@op
def lu_factor(x: Any) -> tuple[Any, Any]:
    """The triangles L and U of P x = L U in one matrix, and the exchanges of rows that P makes."""
    factor, pivots = scipy_linalg.lu_factor(_matrix(x, "lu_factor"))
    return factor, pivots


@op
def matrix_rank(x: Any, tol: float | None = None) -> Any:
    """The number of singular values above `tol`."""
    return jnp.linalg.matrix_rank(_matrix(x, "matrix_rank"), tol).astype("int32")


norm = bound(
    jnp.linalg.norm,
    "x ord=None axis=None keepdims=False",
    "The norm of vectors or matrices along one or two axes.",
    x=fractions,
)


@op
def pinv(x: Any, rcond: float | None = None) -> Any:
    """The Moore-Penrose inverse."""
    return jnp.linalg.pinv(_matrix(x, "pinv"), rtol=rcond)


@op
def qr(x: Any, mode: str = "reduced") -> tuple[Any, ...]:
    """Orthogonal columns Q and an upper triangle R with x = Q R."""
    checks.one_of("qr", "mode", mode, ("reduced", "complete"))
    return tuple(jnp.linalg.qr(_matrix(x, "qr"), mode=mode))


def _system(a: Any, b: Any, who: str) -> tuple[Any, Any]:
    a, b = _matrix(a, who, square=True), jnp.asarray(b)
    rows = b.shape[-2:-1] if b.ndim == a.ndim else b.shape[-1:]
    if b.ndim < 1 or (b.ndim in (a.ndim, a.ndim - 1) and rows != a.shape[-1:]):
        raise ValueError(f"{who}: b must have as many rows as a, got shapes {a.shape} and {b.shape}.")
    return a, b


@op
def solve(a: Any, b: Any) -> Any:
    """The x with a x = b."""
    return jnp.linalg.solve(*_system(a, b, "solve"))


@op
def solve_triangular(a: Any, b: Any, lower: bool = False) -> Any:
    """The x with a x = b for a triangle `a`."""
    return scipy_linalg.solve_triangular(*_system(a, b, "solve_triangular"), lower=lower)


@op
def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """U, S and V^T with x = U S V^T, or S alone."""
    parts = jnp.linalg.svd(_matrix(x, "svd"), full_matrices=full_matrices, compute_uv=compute_uv)
    return tuple(parts) if compute_uv else parts
