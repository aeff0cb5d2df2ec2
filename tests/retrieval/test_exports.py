from resume_lab import retrieval


def test_all_is_sorted_and_every_name_exists() -> None:
    assert retrieval.__all__ == sorted(retrieval.__all__)
    assert all(hasattr(retrieval, name) for name in retrieval.__all__)
