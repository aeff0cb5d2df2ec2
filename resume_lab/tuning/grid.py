"""Every setting of a grid, measured: the exhaustive way, and what it tries when nobody says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy.engine import Engine
from tqdm.auto import tqdm

from resume_lab.database.indexes import MAX_LISTS, MIN_ROWS_PER_LIST, IVFFlat
from resume_lab.errors import ExperimentError
from resume_lab.given import whole, wholes
from resume_lab.tuning import runs
from resume_lab.tuning.decide import decide
from resume_lab.tuning.environment import environment, in_turn
from resume_lab.tuning.measure import ROUNDS, checked, measure
from resume_lab.tuning.results import Exact, Latency, Timings, TuningResult
from resume_lab.tuning.run import DEFAULT_TARGET_RECALL, check_options, ending
from resume_lab.tuning.runs import Run
from resume_lab.tuning.scratch import Scratch, Storage, scratch_copy
from resume_lab.tuning.workload import Workload


def tune_grid(
    engine: Engine,
    workload: Workload,
    *,
    lists: Sequence[int] | None = None,
    probes: Sequence[int] | None = None,
    target_recall: float = DEFAULT_TARGET_RECALL,
    rounds: int = ROUNDS,
    seed: int = 0,
    storage: Storage | str = Storage.EXTERNAL,
    run: Run | None = None,
    progress: bool = False,
) -> TuningResult:
    """Measure every `lists` with every `probes` on a scratch copy, and recommend the cheapest.

    Without `lists` and `probes` the usual guidance is tried. Of given probes, those greater than an
    index's lists are left out. All queries are asked, and none confirm. Finished indexes are kept
    in `run`, which can be resumed. An interrupt drops the copy.
    """
    start = time.perf_counter()
    run = run or Run()
    with ending(run, engine):
        check_options(target_recall, None, rounds, 0)
        seed = whole(seed, "seed", least=0, error=ExperimentError)
        grid = _grid(workload, lists, probes)
        asked = {"grid": [(index.lists, wanted) for index, wanted in grid], "rounds": rounds}
        run.check(runs.fingerprint(workload, asked | {"storage": Storage(storage).value}))
        storage = Storage(storage)
        with scratch_copy(engine, workload.vectors, storage=storage, indexes=1) as scratch:
            place = environment(scratch, in_turn(rounds))
            sweeps = []
            for index, wanted in tqdm(grid, desc="indexes", unit="index", disable=not progress):
                sweep = partial(_swept, scratch, workload, index, wanted, rounds, seed)
                sweeps.append(run.step(f"lists {index.lists}", sweep))
        exact = _pooled([runs.exact_of(kept["exact"]) for kept in sweeps])
        points = tuple(runs.point_of(point) for kept in sweeps for point in kept["points"])
        advised, why = decide(points, exact, target_recall, workload.info)
        why += _left_out(probes, grid)
        timings = Timings(
            exact_s=workload.exact_s,
            build_s=sum(kept["build_s"] for kept in sweeps),
            measure_s=sum(kept["measure_s"] for kept in sweeps),
            total_s=workload.exact_s + time.perf_counter() - start,
        )
        result = TuningResult(
            workload.info, place, target_recall, exact, points, advised, why, timings,
            difficulty=workload.difficulty,
        )  # fmt: skip
        run.finish(result)
    return result


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


def _left_out(probes: Sequence[int] | None, grid: Sequence[tuple[IVFFlat, list[int]]]) -> str:
    """Say which of the given probes no index of the grid can have."""
    most = max(index.lists for index, _ in grid)
    beyond = ", ".join(str(value) for value in sorted(probes or ()) if value > most)
    return f" Probes {beyond} were left out: no index has more than {most} lists." if beyond else ""


def _grid(
    workload: Workload, lists: Sequence[int] | None, probes: Sequence[int] | None
) -> list[tuple[IVFFlat, list[int]]]:
    """Return each index with its probes, all of it checked before the first is built."""
    grid = []
    rows = len(workload.vectors)
    probes = wholes(probes, "probes", error=ExperimentError) if probes else None
    for value in wholes(lists or default_lists(rows), "lists", error=ExperimentError):
        index = IVFFlat(value)
        wanted = probes_within(probes, value) if probes else default_probes(value)
        grid.append((index, checked(index, wanted, workload)))
    return grid


def _swept(
    scratch: Scratch,
    workload: Workload,
    index: IVFFlat,
    probes: Sequence[int],
    rounds: int,
    seed: int,
) -> dict[str, Any]:
    sweep = measure(scratch, workload, index, probes, rounds=rounds, seed=seed)
    return {
        "points": [runs.plain(point) for point in sweep.points],
        "exact": runs.plain(sweep.exact),
        "build_s": sweep.build.build_s,
        "measure_s": sweep.measure_s,
    }


def _pooled(exacts: Sequence[Exact]) -> Exact:
    samples = np.concatenate([exact.latency.samples_ms for exact in exacts])
    server_ms = float(np.median([exact.server_ms for exact in exacts]))
    return Exact(Latency.of(samples), server_ms, exacts[0].plan)
