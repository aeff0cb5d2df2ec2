from resume_lab import tuning


def test_all_is_sorted_and_every_name_exists() -> None:
    assert tuning.__all__ == sorted(tuning.__all__)
    assert all(hasattr(tuning, name) for name in tuning.__all__)
