"""Vectors from a file, and whether they can be used."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resume_lab.errors import DataError

_MAGIC = b"\x93NUMPY"
_NAMES = ("embedding", "embeddings", "vector", "vectors")

_Numbers = NDArray[np.number[Any]]


def load_vectors(path: str | Path) -> NDArray[np.float32]:
    """Read vectors (n_rows, dim) as float32 from a .npy, .npz or .parquet file.

    A .npy of float32 stays on disk, memory-mapped. A .npz holds one array, or one of them is named
    as a .parquet column is: embedding(s) or vector(s). Values are not checked: `validate_vectors`.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        permitted = ", ".join(_READERS)
        raise DataError(f"{file} has the suffix {file.suffix!r}; permitted: {permitted}.")
    if not file.is_file():
        found = "is a directory" if file.is_dir() else "does not exist"
        raise DataError(f"{file} {found}; permitted: a {file.suffix} file.")
    return _as_float32(reader(file), file)


def validate_vectors(
    vectors: _Numbers, *, dim: int | None = None, block_rows: int = 8192, what: str = "vectors"
) -> None:
    """Refuse a wrong dimension, NaN, infinity and zero vectors; name the first bad row.

    Reads vectors (n_rows, dim) by blocks. A value beyond float32 counts as infinity, one that
    float32 rounds to 0 as 0.
    """
    _check_form(vectors, what)
    if dim is not None and vectors.shape[1] != dim:
        raise DataError(f"{what}: {vectors.shape[1]} dimensions; permitted: {dim}.")
    for start, block in _blocks(vectors, block_rows):
        finite = np.isfinite(block).all(axis=1)
        bad = ~(finite & block.any(axis=1))
        if bad.any():
            i = int(np.argmax(bad))
            raise DataError(
                f"{what}: row {start + i} (counted from 0) {_problem(block[i])}; "
                "permitted: finite float32 values, not all 0."
            )


def check_is_array(value: Any, what: str) -> None:
    """Raise DataError for anything but a NumPy array, such as a list."""
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"{what}: of type {type(value).__name__}; permitted: a NumPy array.",
            hint="numpy.array(..., dtype=numpy.float32) makes one of lists.",
        )


def unit(vectors: _Numbers, *, block_rows: int = 8192) -> NDArray[np.float32]:
    """Scale each row of vectors (n_rows, dim) to length 1; zero rows stay zero.

    Lengths are taken in float64, by blocks, so that no float32 value overflows or vanishes.
    """
    _check_form(vectors, "vectors")
    out = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), block_rows):
        block = np.asarray(vectors[start : start + block_rows], dtype=np.float64)
        largest = np.abs(block).max(axis=1, keepdims=True)
        if not np.isfinite(largest).all():
            i = int(np.argmin(np.isfinite(largest[:, 0])))
            raise DataError(
                f"vectors: row {start + i} (counted from 0) {_problem(block[i])}; "
                "permitted: finite values."
            )
        block = block / np.where(largest == 0.0, 1.0, largest)
        lengths = np.sqrt(np.vecdot(block, block))[:, None]
        out[start : start + block_rows] = block / np.where(lengths == 0.0, 1.0, lengths)
    return out


def _check_form(vectors: _Numbers, what: str) -> None:
    check_is_array(vectors, what)
    if vectors.ndim != 2 or not vectors.size:
        raise DataError(
            f"{what}: shape {vectors.shape}; permitted: (n_rows, dim), neither of them 0."
        )
    if vectors.dtype.kind not in "fiu":
        raise DataError(f"{what}: dtype {vectors.dtype}; permitted: real numbers, as float32.")


def _blocks(vectors: _Numbers, block_rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, block as float32)."""
    for start in range(0, len(vectors), block_rows):
        with np.errstate(over="ignore", under="ignore"):
            yield start, np.asarray(vectors[start : start + block_rows], dtype=np.float32)


def _problem(row: NDArray[np.floating[Any]]) -> str:
    for name, wrong in (("NaN", np.isnan(row)), ("an infinity (or beyond float32)", np.isinf(row))):
        if wrong.any():
            return f"has {name} in column {int(np.argmax(wrong))}"
    return "is a zero vector"


def _as_float32(array: NDArray[Any], file: Path) -> NDArray[np.float32]:
    _check_form(array, str(file))
    if array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def _read_npy(file: Path) -> NDArray[Any]:
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        permitted = "an array of numbers saved by numpy.save"
        raise _unreadable(file, permitted, _why(file, error)) from error
    if not isinstance(loaded, np.ndarray):
        raise DataError(f"{file} is an archive of arrays; permitted: one array, or suffix .npz.")
    return loaded


def _read_npz(file: Path) -> NDArray[Any]:
    permitted = "arrays of numbers saved by numpy.savez"
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError(f"{file} holds a single .npy array; permitted: {permitted}.")
        with loaded as archive:
            return np.asarray(archive[_only(archive.files, "array", file)])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(file, permitted, error) from error


def _read_parquet(file: Path) -> NDArray[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            f"{file}: reading .parquet needs pyarrow.", hint="pip install pyarrow"
        ) from error
    try:
        schema = pq.read_schema(file)
        lists = [f.name for f in schema if _is_vector_type(f.type)]
        name = _only(lists, "column of lists of numbers", file)
        column = pq.read_table(file, columns=[name]).column(name)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file, "a Parquet file with a column of vectors", error) from error
    return _from_lists(column.combine_chunks(), file, name)


def _is_vector_type(kind: Any) -> bool:
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list) and bool(
        types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
    )


def _from_lists(column: Any, file: Path, name: str) -> NDArray[Any]:
    """A pyarrow array of lists as (n_rows, dim); neither NULL nor ragged."""
    if not len(column):
        raise DataError(f"{file}: column {name!r} has no rows; permitted: 1 or more.")
    if column.null_count:
        i = int(np.argmax(np.asarray(column.is_null())))
        raise DataError(f"{file}: row {i} (counted from 0) is NULL; permitted: vectors only.")
    lengths = np.asarray(column.value_lengths())
    if (lengths != lengths[0]).any():
        i = int(np.argmax(lengths != lengths[0]))
        raise DataError(
            f"{file}: row {i} (counted from 0) has {lengths[i]} values; "
            f"permitted: {lengths[0]}, as row 0."
        )
    values = column.flatten()
    if values.null_count:
        i = int(np.argmax(np.asarray(values.is_null()))) // int(lengths[0])
        raise DataError(
            f"{file}: row {i} (counted from 0) has a NULL value; permitted: numbers only."
        )
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _only(names: list[str], what: str, file: Path) -> str:
    """The single name, or the single one that says it holds vectors."""
    named = names if len(names) == 1 else [n for n in names if n.lower() in _NAMES]
    if len(named) != 1:
        found = ", ".join(names) or "none"
        raise DataError(
            f"{file}: which {what} to read is unclear; found: {found}; permitted: a single one, "
            f"or exactly one named {', '.join(_NAMES)}."
        )
    return named[0]


def _why(file: Path, error: Exception) -> str:
    """Return why a .npy file cannot be read; NumPy would speak of pickles and of mmap."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    with file.open("rb") as opened:
        start = opened.read(len(_MAGIC))
    if not start:
        return "it is empty"
    return "it is damaged or cut off" if start == _MAGIC else "it is no .npy file"


def _unreadable(file: Path, permitted: str, error: object) -> DataError:
    return DataError(f"{file} cannot be read: {error}; permitted: {permitted}.")


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
