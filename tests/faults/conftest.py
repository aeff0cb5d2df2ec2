"""A server with the settings of users, for commands that are killed."""

from collections.abc import Iterator

import pytest

from .lab import Lab, new_lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Give one lab to all tests; each operation finds everything as it wants it."""
    with new_lab() as made:
        yield made
    assert not made.server.status().running
