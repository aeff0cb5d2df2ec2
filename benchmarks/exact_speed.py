"""Time of `exact_neighbours` against the bare blocked matrix product, in one run.

python -m benchmarks.exact_speed [--rows 50000 --queries 500]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from resume_lab.tuning.environment import machine
from resume_lab.vectors import Metric, exact_neighbours, generate
from resume_lab.vectors.exact import row_blocks

BLOCK_ROWS, BLOCK_QUERIES = 8192, 1024


def bare_product(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    """Multiply block by block as `exact_neighbours` does, and keep nothing."""
    for at in range(0, len(queries), BLOCK_QUERIES):
        part = queries[at : at + BLOCK_QUERIES]
        out = np.empty(len(part) * min(BLOCK_ROWS, len(vectors)), dtype=np.float32)
        for rows in row_blocks(len(vectors), BLOCK_ROWS):
            scores = out[: len(part) * (rows.stop - rows.start)].reshape(len(part), -1)
            np.matmul(part, vectors[rows].T, out=scores)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print one line for each metric: best of the rounds, product and search in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 50_000), ("queries", 500), ("dim", 1536), ("k", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", default="random", help="random, clustered or spectrum")
    a = parser.parse_args()
    vectors = generate(a.kind, a.rows, dim=a.dim)
    queries = generate(a.kind, a.queries, dim=a.dim, start=a.rows)
    print(f"{machine()}, numpy {np.__version__}")
    print(f"{a.kind}, {a.queries} queries, {a.rows} x {a.dim}, k {a.k}, best of {a.rounds}")
    for metric in Metric:
        pairs = [
            (
                seconds(lambda: bare_product(vectors, queries)),
                seconds(lambda m=metric: exact_neighbours(vectors, queries, a.k, m)),  # type: ignore[misc]
            )
            for _ in range(a.rounds)
        ]
        bare, exact = (min(column) for column in zip(*pairs, strict=True))
        print(f"{metric:7} product {bare:.3f} s, exact {exact:.3f} s, ratio {exact / bare:.2f}")


if __name__ == "__main__":
    main()
