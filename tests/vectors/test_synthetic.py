import tracemalloc

import numpy as np
import pytest

from resume_lab.errors import DataError
from resume_lab.vectors import Kind, generate, stream

KINDS = pytest.mark.parametrize("kind", list(Kind))


@KINDS
def test_rows_have_unit_length_and_are_float32(kind: Kind) -> None:
    rows = generate(kind, 100, dim=32)
    assert rows.dtype == np.float32
    assert rows.shape == (100, 32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


@KINDS
@pytest.mark.parametrize("dim", [8, 32])
def test_a_row_does_not_depend_on_how_many_are_asked_for(kind: Kind, dim: int) -> None:
    rows = generate(kind, 2500, dim=dim)
    np.testing.assert_array_equal(generate(kind, 7, dim=dim), rows[:7])
    np.testing.assert_array_equal(generate(kind, 1100, dim=dim, start=1000), rows[1000:2100])


@KINDS
@pytest.mark.parametrize("batch_rows", [1, 999, 1024, 2048, 9999])
def test_batches_do_not_change_the_rows(kind: Kind, batch_rows: int) -> None:
    batches = list(stream(kind, rows=2100, dim=8, start=3, batch_rows=batch_rows))
    assert {len(b) for b in batches[:-1]} <= {batch_rows}
    np.testing.assert_array_equal(np.concatenate(batches), generate(kind, 2100, dim=8, start=3))


@KINDS
def test_seeds_give_different_rows(kind: Kind) -> None:
    assert not np.array_equal(generate(kind, 5, dim=8), generate(kind, 5, dim=8, seed=1))


@KINDS
def test_no_rows_are_no_batches(kind: Kind) -> None:
    assert list(stream(kind, rows=0, dim=8)) == []
    assert generate(kind, 0, dim=8).shape == (0, 8)


def mean_cosine(rows: np.ndarray) -> float:
    cosines = rows @ rows.T
    return float((cosines.sum() - len(rows)) / (cosines.size - len(rows)))


def test_random_directions_are_unrelated() -> None:
    assert abs(mean_cosine(generate(Kind.RANDOM, 500, dim=256))) < 0.01


def test_spectrum_has_the_mean_cosine_of_real_embeddings() -> None:
    assert mean_cosine(generate(Kind.SPECTRUM, 500)) == pytest.approx(0.75, abs=0.01)


def test_spectrum_has_the_decay_of_real_embeddings() -> None:
    rows = generate(Kind.SPECTRUM, 700)
    variances = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    share = np.cumsum(variances) / variances.sum()
    found = [int(np.searchsorted(share, s)) + 1 for s in (0.5, 0.9, 0.99)]
    np.testing.assert_allclose(found, [22, 200, 480], rtol=0.1)


def test_clustered_rows_have_neighbours_and_random_ones_have_not() -> None:
    def contrast(kind: Kind) -> float:
        far = 1.0 - generate(kind, 100, start=4000) @ generate(kind, 4000).T
        return float(far.mean() / far.min(axis=1).mean())

    assert contrast(Kind.CLUSTERED) > 2.0
    assert contrast(Kind.RANDOM) < 1.2


def test_stream_memory_does_not_grow_with_the_rows() -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        for _ in stream(Kind.RANDOM, rows=rows, dim=64, batch_rows=512):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(20_000) < 1.2 * peak(4_000)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"rows": -1}, "rows is -1; permitted: 0 or more"),
        ({"dim": 0}, "dim is 0; permitted: 1 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"start": -1}, "start is -1"),
        ({"batch_rows": 0}, "batch_rows is 0"),
    ],
)
def test_wrong_numbers_are_refused_at_the_call(bad: dict[str, int], says: str) -> None:
    with pytest.raises(DataError, match=says):
        stream(Kind.RANDOM, **({"rows": 1} | bad))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DataError, match="permitted: random, clustered, spectrum"):
        generate("uniform", 1)  # type: ignore[arg-type]
