"""Vectors to tune on when there are none yet: three kinds, from unrealistic to near real ones.

Row i depends on (kind, seed, dim, i) alone, never on how many rows are asked for or in what
batches. Rows from `start` on are held-out queries: same distribution, none of them a table row.

Measured at dim 1536, seed 0:
- random: no neighbourhood to find. Relative contrast (mean / nearest distance) is 1.1.
- clustered: relative contrast of the cosine distance at 20,000 rows is 2.5.
- spectrum: mean pairwise cosine .75; 50 / 90 / 99 % of the variance of 700 rows lie in 22 / 194 /
  470 dimensions, as in 700 real text-embedding-ada-002 vectors (22 / 200 / 480).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.given import Choice, whole

_BLOCK_ROWS = 1024  # part of what defines the rows: another value gives other rows

# clustered: unit(W (sqrt(1 - s^2) c_z + s e) + m mu + noise)
_CLUSTER_RANK = 256
_CENTRES = 200
_ZIPF = 0.5
_WITHIN = 0.55  # s
_CLUSTER_MEAN = 0.8  # m
_NOISE = 0.6  # length of the noise; W (...) has length 1

# spectrum: variance of dimension i (from 1) is i^-a exp(-i / b)
_SPECTRUM_RANK = 1024
_DECAY_POWER = 0.85  # a
_DECAY_LENGTH = 440.0  # b
_MEAN_COSINE = 0.75

_F32 = NDArray[np.float32]
_Block = Callable[[np.random.Generator], _F32]


class Kind(Choice):
    """How synthetic vectors are spread."""

    RANDOM = "random"
    CLUSTERED = "clustered"
    SPECTRUM = "spectrum"


def stream(
    kind: Kind,
    *,
    rows: int,
    dim: int = 1536,
    seed: int = 0,
    start: int = 0,
    batch_rows: int = 2048,
) -> Iterator[NDArray[np.float32]]:
    """Yield rows start..start+rows, each of unit length, in batches (<= batch_rows, dim).

    Peak memory depends on batch_rows and dim, not on rows.
    """
    kind = Kind(kind)
    for what, value, least in (
        ("rows", rows, 0),
        ("dim", dim, 1),
        ("seed", seed, 0),
        ("start", start, 0),
        ("batch_rows", batch_rows, 1),
    ):
        whole(value, what, least=least)
    return _batches(kind, rows, dim, seed, start, batch_rows)


def generate(
    kind: Kind, rows: int, *, dim: int = 1536, seed: int = 0, start: int = 0
) -> NDArray[np.float32]:
    """The rows that `stream` yields as one array (rows, dim)."""
    batches = stream(kind, rows=rows, dim=dim, seed=seed, start=start, batch_rows=_BLOCK_ROWS)
    out = np.empty((rows, dim), dtype=np.float32)
    at = 0
    for batch in batches:
        out[at : at + len(batch)] = batch
        at += len(batch)
    return out


def _batches(
    kind: Kind, rows: int, dim: int, seed: int, start: int, batch_rows: int
) -> Iterator[_F32]:
    """Cut the endless sequence of blocks into batches."""
    batch, filled = np.empty((min(batch_rows, rows), dim), dtype=np.float32), 0
    left = rows
    for block in _pieces(kind, rows, dim, seed, start):
        while len(block):
            take = min(len(block), len(batch) - filled)
            batch[filled : filled + take] = block[:take]
            block, filled = block[take:], filled + take
            if filled == len(batch):
                yield batch
                left -= filled
                batch, filled = np.empty((min(batch_rows, left), dim), dtype=np.float32), 0


def _pieces(kind: Kind, rows: int, dim: int, seed: int, start: int) -> Iterator[_F32]:
    """The parts of the numbered blocks that lie within start..start+rows."""
    if not rows:
        return
    tag = list(Kind).index(kind)
    make = _MAKERS[kind](np.random.default_rng([seed, tag, dim]), dim)
    stop = start + rows
    for number in range(start // _BLOCK_ROWS, (stop - 1) // _BLOCK_ROWS + 1):
        block = make(np.random.default_rng([seed, tag, dim, number + 1]))
        block /= np.sqrt(np.vecdot(block, block))[:, None]
        first = number * _BLOCK_ROWS
        yield block[max(0, start - first) : stop - first]


def _random(rng: np.random.Generator, dim: int) -> _Block:
    """Independent directions."""
    return lambda rng: _normal(rng, dim)


def _clustered(rng: np.random.Generator, dim: int) -> _Block:
    """Centres of Zipf weights in a space whose i-th eigenvalue is 1/i, off the origin."""
    rank = min(_CLUSTER_RANK, dim)
    basis = _basis(rng, dim, 1.0 / np.arange(1, rank + 1))
    centres = rng.standard_normal((_CENTRES, rank), dtype=np.float32)
    centres *= np.float32(np.sqrt(1.0 - _WITHIN**2))
    mean = _direction(rng, dim) * np.float32(_CLUSTER_MEAN)
    weights = np.arange(1, _CENTRES + 1) ** -_ZIPF
    edges = np.cumsum(weights / weights.sum())[:-1]
    noise = np.float32(_NOISE / np.sqrt(dim))

    def block(rng: np.random.Generator) -> _F32:
        inner = _normal(rng, rank) * np.float32(_WITHIN)
        inner += centres[np.searchsorted(edges, rng.random(_BLOCK_ROWS), side="right")]
        rows = _normal(rng, dim)
        rows *= noise
        rows += mean
        rows += inner @ basis
        return rows

    return block


def _spectrum(rng: np.random.Generator, dim: int) -> _Block:
    """A Gaussian off the origin whose variance decays as that of real embeddings."""
    i = np.arange(1, min(_SPECTRUM_RANK, dim) + 1, dtype=np.float64)
    basis = _basis(rng, dim, i**-_DECAY_POWER * np.exp(-i / _DECAY_LENGTH))
    # With total variance 1 a mean of length m gives the mean cosine m^2 / (m^2 + 1).
    mean = _direction(rng, dim) * np.float32(np.sqrt(_MEAN_COSINE / (1.0 - _MEAN_COSINE)))

    def block(rng: np.random.Generator) -> _F32:
        rows = _normal(rng, len(i)) @ basis
        rows += mean
        return rows

    return block


_MAKERS: dict[Kind, Callable[[np.random.Generator, int], _Block]] = {
    Kind.RANDOM: _random,
    Kind.CLUSTERED: _clustered,
    Kind.SPECTRUM: _spectrum,
}


def _normal(rng: np.random.Generator, width: int) -> _F32:
    return rng.standard_normal((_BLOCK_ROWS, width), dtype=np.float32)


def _direction(rng: np.random.Generator, dim: int) -> _F32:
    """A random direction (dim,) of length 1."""
    direction = rng.standard_normal(dim)
    return np.asarray(direction / np.linalg.norm(direction), dtype=np.float32)


def _basis(rng: np.random.Generator, dim: int, variances: NDArray[np.floating[Any]]) -> _F32:
    """Orthogonal rows (rank, dim) whose squared lengths follow variances and add up to 1."""
    orthonormal = np.linalg.qr(rng.standard_normal((dim, len(variances))))[0]
    scaled = orthonormal * np.sqrt(variances / variances.sum())
    return np.ascontiguousarray(scaled.T, dtype=np.float32)
