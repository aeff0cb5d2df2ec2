from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resume_lab.errors import DataError
from resume_lab.vectors import load_vectors, unit, validate_vectors

ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)


def save_npy(path: Path, array: Any) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def save_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_float32_npy_stays_on_disk(tmp_path: Path) -> None:
    loaded = load_vectors(save_npy(tmp_path / "v.npy", ROWS))
    assert isinstance(loaded, np.memmap)
    np.testing.assert_array_equal(loaded, ROWS)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8", ">f4"])
def test_other_numbers_become_float32(tmp_path: Path, dtype: str) -> None:
    loaded = load_vectors(save_npy(tmp_path / "v.npy", ROWS.astype(dtype)))
    assert loaded.dtype == np.float32
    assert loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, ROWS)


def test_a_fortran_ordered_npy_becomes_c_ordered(tmp_path: Path) -> None:
    loaded = load_vectors(str(save_npy(tmp_path / "v.npy", np.asfortranarray(ROWS))))
    assert loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, ROWS)


@pytest.mark.parametrize(
    "arrays", [{"x": ROWS}, {"vectors": ROWS, "ids": [1, 2]}, {"ids": [1, 2], "embeddings": ROWS}]
)
def test_an_npz_gives_its_only_or_its_named_array(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "v.npz", **arrays)
    np.testing.assert_array_equal(load_vectors(tmp_path / "v.npz"), ROWS)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 3), pa.large_list(pa.int64())]
)
def test_a_parquet_gives_its_column_of_lists(tmp_path: Path, kind: Any) -> None:
    column = pa.array(ROWS.astype(int).tolist(), kind)
    path = save_parquet(tmp_path / "v.parquet", {"id": [1, 2], "x": column})
    loaded = load_vectors(path)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, ROWS)


def test_a_parquet_with_several_columns_gives_the_named_one(tmp_path: Path) -> None:
    columns = {"tags": [[1], [2]], "embedding": ROWS.tolist()}
    loaded = load_vectors(save_parquet(tmp_path / "v.parquet", columns))
    np.testing.assert_array_equal(loaded, ROWS)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (ROWS[0], r"shape \(3,\); permitted: \(n_rows, dim\)"),
        (ROWS[:0], r"shape \(0, 3\)"),
        (np.array([[1, "a"]], dtype=object), "cannot be read"),
        (np.array([["a", "b"]]), "dtype <U1; permitted: real numbers"),
        (ROWS.astype(complex), "dtype complex128"),
        (ROWS.astype(bool), "dtype bool"),
    ],
)
def test_an_npy_that_holds_no_vectors_is_refused(tmp_path: Path, array: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as error:
        load_vectors(save_npy(tmp_path / "v.npy", array))
    assert "v.npy" in str(error.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
@pytest.mark.parametrize("content", [b"", b"no such thing"])
def test_a_broken_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"v{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"v{suffix} cannot be read: .*; permitted: "):
        load_vectors(path)


def test_a_truncated_npy_is_refused(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "v.npy", ROWS)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="cannot be read"):
        load_vectors(path)


def test_missing_files_directories_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.npy").mkdir()
    with pytest.raises(DataError, match=r"d.npy is a directory; permitted: a .npy file"):
        load_vectors(tmp_path / "d.npy")
    with pytest.raises(DataError, match=r"no.npz does not exist"):
        load_vectors(tmp_path / "no.npz")
    with pytest.raises(DataError, match=r"suffix '.csv'; permitted: .npy, .npz, .parquet"):
        load_vectors(tmp_path / "v.csv")


def test_an_npz_without_a_clear_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", a=ROWS, b=ROWS)
    with pytest.raises(DataError, match="unclear; found: a, b; permitted: a single one"):
        load_vectors(tmp_path / "v.npz")


def test_an_npz_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        load_vectors(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"x": [[1.0, 2.0], [1.0]]}, "row 1 .* has 1 values; permitted: 2"),
        ({"x": [[1.0], None]}, "row 1 .* is NULL"),
        ({"x": [[1.0, 2.0], [1.0, None]]}, "row 1 .* has a NULL value"),
        ({"x": pa.array([], pa.list_(pa.float32()))}, "has no rows"),
        ({"x": [1.0, 2.0]}, "found: none"),
        ({"x": [[1.0]], "y": [[1.0]]}, "found: x, y"),
        ({"x": [[], []]}, "found: none"),
        ({"x": pa.array([[], []], pa.list_(pa.float32()))}, r"permitted: \(n_rows, dim\)"),
    ],
)
def test_a_parquet_without_clear_vectors_is_refused(
    tmp_path: Path, columns: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        load_vectors(save_parquet(tmp_path / "v.parquet", columns))


def test_a_compressed_npz_with_damaged_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    np.savez_compressed(path, vectors=np.random.default_rng(0).random((50, 8), dtype=np.float32))
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[60:middle] = b"\xff" * (middle - 60)
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="cannot be read"):
        load_vectors(path)


def with_value(value: float, dtype: str = "float32") -> Any:
    rows = np.ones((10, 3), dtype=dtype)
    rows[7, 2] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (with_value(np.nan), r"row 7 \(counted from 0\) has NaN in column 2"),
        (with_value(-np.inf), "row 7 .* has an infinity"),
        (with_value(1e39, "float64"), "row 7 .* beyond float32"),
        (with_value(0.0) * (with_value(0.0).min(axis=1, keepdims=True)), "row 7 .* zero vector"),
        (np.ones(3), r"shape \(3,\)"),
        (np.array([["a"]]), "dtype"),
    ],
)
def test_the_first_bad_row_is_named(rows: Any, says: str) -> None:
    with pytest.raises(DataError, match=f"mine: .*{says}"):
        validate_vectors(rows, block_rows=4, what="mine")


def test_a_wrong_dimension_is_refused_and_a_right_one_is_not() -> None:
    validate_vectors(ROWS, dim=3)
    with pytest.raises(DataError, match="3 dimensions; permitted: 1536"):
        validate_vectors(ROWS, dim=1536)


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
def test_unit_scales_any_magnitude(scale: float) -> None:
    rows = (np.array([[3.0, 0.0], [1.2, 1.6]]) * scale).astype(np.float32)
    np.testing.assert_allclose(unit(rows, block_rows=1), [[1.0, 0.0], [0.6, 0.8]], rtol=1e-6)


def test_unit_keeps_zero_rows_and_refuses_nan() -> None:
    assert unit(np.zeros((1, 2), dtype=np.float32)).tolist() == [[0.0, 0.0]]
    with pytest.raises(DataError, match=r"row 7 .* NaN"):
        unit(with_value(np.nan), block_rows=4)
