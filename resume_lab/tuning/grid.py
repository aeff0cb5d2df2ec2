"""Which lists and probes to try when nobody says."""

from __future__ import annotations

import math
from collections.abc import Iterable

from resume_lab.database.indexes import MAX_LISTS, MIN_ROWS_PER_LIST


def default_lists(rows: int) -> list[int]:
    """Return the lists that common guidance names for this many rows.

    rows / 1000 is pgvector's README, 100 what CREATE INDEX takes when nothing is said, sqrt(rows) a
    common rule for smaller tables. Lists that would hold fewer than 50 rows are left out.
    """
    root = math.isqrt(rows)
    wanted = {rows // 1000, 100, root}
    most = min(MAX_LISTS, rows // MIN_ROWS_PER_LIST)
    return sorted(lists for lists in wanted if 2 <= lists <= most) or [max(1, most)]


def default_probes(lists: int) -> list[int]:
    """Return 1, 2, 4, ... up to half of the lists, and all of them, where recall is 1."""
    doubling = [2**power for power in range((lists // 2).bit_length())]
    return sorted({1, *doubling, lists})


def probes_within(probes: Iterable[int], lists: int) -> list[int]:
    """Return the probes that an index of so many lists can have; all of it when none can."""
    return sorted({value for value in probes if value <= lists}) or [lists]
