from resume_lab import vectors


def test_all_is_sorted_and_every_name_exists() -> None:
    assert vectors.__all__ == sorted(vectors.__all__)
    assert all(hasattr(vectors, name) for name in vectors.__all__)
