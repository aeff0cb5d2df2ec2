import json
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.errors import ExperimentError
from resume_lab.tuning import TuningResult, Workload, tune
from resume_lab.tuning.grid import default_lists, default_probes
from resume_lab.tuning.run import machine

from .factory import unit_rows
from .test_scratch import scratch_schemas

LONG_RUN = """
import sys
import sqlalchemy as sa
from resume_lab.database.session import engine_for
from resume_lab.tuning import Workload, tune
url, rows, lists, rounds = sys.argv[1:]
workload = Workload.generated("random", int(rows), n_queries=50)
tune(engine_for(sa.make_url(url)), workload, lists=[int(lists)], probes=[1], rounds=int(rounds))
"""


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.generated("clustered", 2000, n_queries=60, dim=512)


def run(engine: Engine, workload: Workload) -> TuningResult:
    return tune(engine, workload, lists=[40, 10], probes=[1, 4, 40], rounds=1)


def test_a_run_measures_the_grid_and_recommends_a_measured_point(
    database: Engine, workload: Workload
) -> None:
    found = run(database, workload)
    settings = [(point.lists, point.probes) for point in found.points]
    assert settings == [(10, 1), (10, 4), (40, 1), (40, 4), (40, 40)]
    assert found.points[-1].recall == 1.0
    assert found.recommendation is not None
    chosen = found.points[settings.index((found.recommendation.lists, found.recommendation.probes))]
    assert chosen.recall == found.recommendation.recall >= 0.95
    meeting = [point for point in found.points if point.recall >= 0.95]
    assert chosen.latency.p50_ms == min(point.latency.p50_ms for point in meeting)
    assert (found.workload.rows, found.workload.dim, found.workload.n_queries) == (2000, 512, 60)
    assert len(found.exact.latency.samples_ms) == 60  # 30 beside each index, pooled
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["why"] == found.why
    assert scratch_schemas(database) == []


def test_timings_are_those_of_the_stages(database: Engine, workload: Workload) -> None:
    start = time.perf_counter()
    timings = run(database, workload).timings
    wall_s = time.perf_counter() - start
    assert timings.exact_s == workload.exact_s > 0
    assert timings.build_s > 0
    assert timings.measure_s > 0
    assert timings.build_s + timings.measure_s < timings.total_s - timings.exact_s <= wall_s


def test_the_environment_is_that_of_the_server(database: Engine, workload: Workload) -> None:
    found = tune(database, workload, lists=[5], probes=[1], rounds=1).environment
    assert found.server_version.startswith("18.")
    assert tuple(map(int, found.pgvector_version.split(".")[:2])) >= (0, 8)
    assert found.settings["shared_buffers"] == "128MB"
    assert len(found.settings) == 8
    assert "cores" in found.machine
    assert found.machine == machine()


def test_without_lists_and_probes_common_guidance_is_tried(database: Engine) -> None:
    workload = Workload.of(unit_rows(400, 4), unit_rows(20, 4, seed=1))
    found = tune(database, workload, rounds=1)
    expected = [(lists, probes) for lists in default_lists(400) for probes in default_probes(lists)]
    assert [(point.lists, point.probes) for point in found.points] == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_recall": 0.0}, "target recall is 0.0"),
        ({"target_recall": 1.5}, "target recall is 1.5"),
        ({"target_recall": float("nan")}, "target recall is nan"),
        ({"rounds": 0}, "rounds is 0"),
        ({"lists": [5, 40_000]}, "lists is 40000; pgvector takes 1 to 32768"),
        ({"lists": [5, 500]}, "lists is 500, but there are only 400 rows"),
        ({"lists": [5], "probes": [0, 1]}, "probes is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_copied(
    database: Engine, options: dict[str, object], said: str
) -> None:
    workload = Workload.of(unit_rows(400, 4), unit_rows(20, 4, seed=1))
    connections: list[str] = []
    sa.event.listen(database, "checkout", lambda *_: connections.append("one"))
    with pytest.raises(ExperimentError, match=said):
        tune(database, workload, **options)  # type: ignore[arg-type]
    assert connections == []


@pytest.mark.parametrize(
    ("statement", "rows", "lists", "rounds"),
    [
        ("COPY ", 20_000, 1, 1),
        ("CREATE INDEX lab_ivfflat", 8_000, 2_000, 1),
        ("SELECT id FROM ", 8_000, 4, 500),
    ],
    ids=["copying", "building", "measuring"],
)
def test_an_interrupt_stops_within_two_seconds_and_leaves_nothing(
    database: Engine, statement: str, rows: int, lists: int, rounds: int
) -> None:
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", LONG_RUN, url, str(rows), str(lists), str(rounds)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for_statement(database, statement)
            process.send_signal(signal.SIGINT)
            start = time.perf_counter()
            _, said = process.communicate(timeout=20)
            took_s = time.perf_counter() - start
        finally:
            process.kill()
    assert took_s < 2.0
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert other_statements(database) == []
    assert scratch_schemas(database) == []


def wait_for_statement(engine: Engine, start: str, timeout_s: float = 30.0) -> None:
    """Wait until another client of this database is at a statement that begins so."""
    deadline = time.monotonic() + timeout_s
    while not any(text.startswith(start) for text in other_statements(engine)):
        assert time.monotonic() < deadline, f"nobody came to {start}"
        time.sleep(0.01)


def other_statements(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        found = connection.scalars(
            sa.text(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
                "AND state <> 'idle' AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            )
        )
        return list(found)
