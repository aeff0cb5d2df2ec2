"""Vectors on disk until they are committed: whose they are, torn records, what is left."""

import os
from pathlib import Path

import numpy as np
import pytest

from resume_lab.errors import DataError
from resume_lab.ingestion.journal import Journal

ENDED = 2**22 + 1  # above the largest process number of Linux


def text_hash(number: int) -> str:
    return f"{number:064x}"


def vectors(*numbers: int) -> np.ndarray:
    return np.stack([np.full(1536, number, np.float32) for number in numbers])


def keep(journal: Journal, *numbers: int) -> None:
    journal.keep([text_hash(number) for number in numbers], vectors(*numbers))


def kept(journal: Journal, *numbers: int) -> list[bool]:
    found = [journal.get(text_hash(number)) for number in numbers]
    for number, vector in zip(numbers, found, strict=True):
        assert vector is None or np.array_equal(vector, vectors(number)[0])
    return [vector is not None for vector in found]


def left(folder: Path, *numbers: int) -> Path:
    """Leave what an ended process leaves."""
    keep(Journal(folder, "m"), *numbers)
    (own,) = folder.glob(f"*-{os.getpid()}-*")
    return own.rename(own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{ENDED}-")))


def test_what_another_run_has_left_is_read_by_the_same_model_alone(tmp_path: Path) -> None:
    left(tmp_path, 1, 2)
    assert kept(Journal(tmp_path, "m"), 1, 2, 3) == [True, True, False]
    assert kept(Journal(tmp_path, "other"), 1) == [False]


def test_a_running_process_is_read_too_but_its_file_stays(tmp_path: Path) -> None:
    running = left(tmp_path, 1)
    running = running.rename(running.with_name(running.name.replace(str(ENDED), "1")))
    journal = Journal(tmp_path, "m")
    assert kept(journal, 1) == [True]
    journal.close({text_hash(1)})
    assert list(tmp_path.iterdir()) == [running]


def test_only_what_is_stored_is_removed(tmp_path: Path) -> None:
    used, of_another_folder = left(tmp_path, 1), left(tmp_path, 2, 3)
    Journal(tmp_path, "m").close({text_hash(1), text_hash(2)})
    assert list(tmp_path.iterdir()) == [of_another_folder]
    assert not used.exists()


def test_what_nobody_came_back_for_in_a_month_is_dropped(tmp_path: Path) -> None:
    file = left(tmp_path, 1)
    os.utime(file, (0, 0))
    Journal(tmp_path, "m").close(set())
    assert list(tmp_path.iterdir()) == []


def test_a_torn_record_is_no_vector_and_spoils_no_other(tmp_path: Path) -> None:
    file = left(tmp_path, 1, 2)
    os.truncate(file, file.stat().st_size - 7)
    journal = Journal(tmp_path, "m")
    assert kept(journal, 1, 2) == [True, False]
    keep(journal, 3)
    assert kept(Journal(tmp_path, "m"), 1, 2, 3) == [True, False, True]


def test_what_is_committed_is_not_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "m")
    keep(journal, 1)
    journal.clear()
    keep(journal, 2)
    assert kept(Journal(tmp_path, "m"), 1, 2) == [False, True]


def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used"):
        Journal(tmp_path / "file" / "embedded", "m")
