"""A whole run of the tuner: what it recommends, on what evidence, and what it leaves behind."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.extension import ensure_extension
from resume_lab.database.session import engine_for
from resume_lab.errors import ExperimentError, LabError
from resume_lab.tuning import (
    Point,
    Prediction,
    Recommendation,
    Scratch,
    TuningResult,
    Workload,
    predict,
    runs,
    trial,
    tune,
)
from resume_lab.tuning.environment import machine
from resume_lab.tuning.trial import Answers, Setting

from .factory import curve, unit_rows
from .test_scratch import scratch_schemas

TARGET = 0.9
LISTS = [10, 38, 80]

LONG_RUN = """
import sys
import sqlalchemy as sa
from resume_lab.database.session import engine_for
from resume_lab.tuning import Prediction, Workload, tune
from resume_lab.vectors import Curve
import numpy as np
url, rows, lists, rounds = sys.argv[1:]
workload = Workload.generated("random", int(rows), n_queries=50, dim=512)
n = int(lists)
curve = Curve(n, np.linspace(1 / n, 1, n), np.linspace(1 / n, 1, n) * len(workload.vectors), 1.0)
tune(
    engine_for(sa.make_url(url)), workload, lists=[n], rounds=int(rounds),
    prediction=Prediction(workload, (curve,), 0.1),
)
"""


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.generated("spectrum", 1500, n_queries=200, dim=512)


@pytest.fixture(scope="module")
def prediction(workload: Workload) -> Prediction:
    return predict(workload.split()[0], LISTS)


@pytest.fixture(scope="module")
def place(server18: EmbeddedServer) -> Iterator[Engine]:
    """A database for what several tests look at."""
    engine = engine_for(server18.url("postgres"))
    ensure_extension(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def found(place: Engine, workload: Workload, prediction: Prediction) -> TuningResult:
    return tune(place, workload, target_recall=TARGET, lists=LISTS, prediction=prediction)


def recommended(result: TuningResult) -> tuple[Recommendation, Point]:
    """Return the recommendation and the one point that was measured for it."""
    advice = result.recommendation
    assert advice is not None, result.why
    (point,) = (p for p in result.points if (p.lists, p.probes) == (advice.lists, advice.probes))
    return advice, point


# --- what it recommends


def test_what_is_recommended_was_measured_in_turn_and_surely_reaches_the_target(
    found: TuningResult,
) -> None:
    advice, point = recommended(found)
    assert point.shuffled
    assert len(point.latency.samples_ms) == 200  # two rounds of the queries that choose
    assert (advice.recall, advice.recall_low) == (point.recall, point.recall_low)
    assert advice.recall_low >= TARGET
    assert (advice.p50_ms, advice.n_queries) == (point.latency.p50_ms, 100)
    assert advice.p50_ms < found.exact.latency.p50_ms
    assert advice.speedup_vs_exact == found.exact.latency.p50_ms / advice.p50_ms
    assert f"ivfflat.probes = {advice.probes};" in advice.query_settings
    assert f"WITH (lists = {advice.lists})" in advice.ddl
    assert "is the fastest whose interval lies above recall 0.9" in found.why


def test_the_winner_is_built_three_more_times_and_its_probes_hold_for_the_worst(
    found: TuningResult,
) -> None:
    advice, _ = recommended(found)
    assert len(advice.rebuilds) == 3
    needed = [built.probes for built in advice.rebuilds if built.probes is not None]
    assert len(needed) == 3
    assert all(built.recall_low >= TARGET for built in advice.rebuilds)
    assert all(built.build_s > 0 for built in advice.rebuilds)
    first = [p.probes for p in found.points if p.shuffled and p.lists == advice.lists]
    assert advice.probes == max([*needed, *first])


def test_half_of_the_queries_confirm_it(found: TuningResult) -> None:
    advice, _ = recommended(found)
    assert (found.workload.n_queries, found.workload.n_confirming) == (100, 100)
    assert advice.confirmed_queries == 100
    assert advice.confirmed_low < advice.confirmed_recall < advice.confirmed_high
    assert advice.confirmed_recall == pytest.approx(advice.recall, abs=0.08)
    assert "100 other queries, which had no part in choosing" in found.why


def test_every_probes_of_every_lists_is_predicted_and_every_point_compared_with_it(
    found: TuningResult, prediction: Prediction
) -> None:
    rows = found.as_dict()["predictions"]
    assert [(row["lists"], row["probes"]) for row in rows] == [
        (lists, probes) for lists in LISTS for probes in range(1, lists + 1)
    ]
    assert all(set(row) == {"lists", "probes", "recall", "rows_scanned"} for row in rows)
    assert rows[-1]["recall"] == 1.0
    assert rows[-1]["rows_scanned"] == pytest.approx(1500)
    for point in found.points:
        recall = prediction.curve(point.lists).recall
        assert point.predicted_recall == recall[point.probes - 1]
    advice, point = recommended(found)
    assert advice.predicted_recall == point.predicted_recall


def test_few_settings_are_measured_each_once_and_sorted(found: TuningResult) -> None:
    settings = [(point.lists, point.probes) for point in found.points]
    assert settings == sorted(set(settings))
    assert len(settings) < 25  # of 128
    assert {lists for lists, _ in settings} <= set(LISTS)
    assert all(point.used_index_forced for point in found.points)


def test_the_json_is_strict_and_has_the_documented_names(found: TuningResult) -> None:
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said["why"] == found.why
    assert (said["target_recall"], said["max_ms"]) == (TARGET, None)
    assert "predicted_recall" in said["points"][0]
    assert {"recall_low", "predicted_recall", "confirmed_recall"} <= set(said["recommendation"])
    assert said["difficulty"]["verdict"]
    assert said["timings"]["predict_s"] > 0
    assert said["cost"] is None or said["cost"]["n_points"] > 0  # None: times of a busy machine
    assert said["expectation"].startswith("Expect recall@10 0.9 from about ")


def test_timings_are_those_of_the_stages(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    start = time.perf_counter()
    timings = tune(
        database, workload, lists=[38], prediction=prediction, rebuilds=1, rounds=1
    ).timings
    wall_s = time.perf_counter() - start
    assert timings.exact_s == workload.exact_s > 0
    assert timings.predict_s == prediction.predict_s > 0
    assert timings.build_s > 0
    assert timings.measure_s > 0
    assert timings.build_s + timings.measure_s < timings.total_s - timings.exact_s <= wall_s


def test_the_environment_is_that_of_the_server(found: TuningResult) -> None:
    where = found.environment
    assert where.server_version.startswith("18.")
    assert tuple(map(int, where.pgvector_version.split(".")[:2])) >= (0, 8)
    assert where.settings["shared_buffers"] == "128MB"
    assert len(where.settings) == 8
    assert where.machine == machine()
    assert "cores" in where.machine
    assert "2 rounds, the settings in shuffled order with the exact scan among them." in (
        where.conditions
    )


# --- the queries that confirm have no part in choosing


def test_queries_that_confirm_are_asked_once_at_the_end_and_never_before(
    database: Engine, workload: Workload, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = trial.answer, []

    def answer(
        scratch: Scratch, workload: Workload, setting: Setting, queries: slice = slice(None)
    ) -> Answers:
        asked.append(workload.query_texts[queries])
        return real(scratch, workload, setting, queries)

    monkeypatch.setattr(trial, "answer", answer)
    result = tune(database, workload, target_recall=TARGET, lists=[38], prediction=prediction,
                  rebuilds=1, rounds=1)  # fmt: skip
    assert result.recommendation is not None
    *choosing, confirming = asked
    first, second = workload.query_texts[:100], workload.query_texts[100:]
    assert {text for texts in choosing for text in texts} == set(first)
    assert confirming == second
    assert not set(first) & set(second)


def test_however_the_confirming_queries_come_out_the_winner_stands(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    ids = workload.neighbours.ids.copy()
    ids[100:] = (ids[100:] + 700) % 1500  # as if the others had other neighbours
    neighbours = replace(workload.neighbours, ids=ids)
    other = replace(workload, neighbours=neighbours)
    result = tune(database, other, target_recall=TARGET, lists=[38], prediction=prediction,
                  rebuilds=0, rounds=1)  # fmt: skip
    advice, _ = recommended(result)
    assert advice.recall_low >= TARGET
    assert advice.confirmed_recall < 0.1
    assert "below the target" in result.why
    assert advice.rebuilds == ()


def test_a_setting_that_the_first_queries_flatter_gives_way_to_one_that_all_confirm(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    """The first look asks 64 queries; these equal stored rows and find all they need at once."""
    easy = workload.vectors[:64]
    queries = np.concatenate([easy, workload.queries[:136]])
    flattered = Workload.of(workload.vectors, queries, k=1)
    result = tune(database, flattered, target_recall=TARGET, lists=[38], prediction=prediction,
                  rebuilds=2, rounds=1)  # fmt: skip
    advice, point = recommended(result)
    assert point.n_queries == 100
    assert advice.recall_low >= TARGET


# --- targets and budgets that cannot be shown or kept


def test_a_target_that_so_few_queries_cannot_show_is_reached_on_average_and_said_so(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    few = workload.part(slice(40))
    result = tune(database, few, lists=[38], prediction=prediction, rebuilds=1, rounds=1)
    advice, _ = recommended(result)
    assert result.target_recall == 0.95
    assert advice.recall >= 0.95 - 1e-9
    assert advice.recall_low < 0.95
    assert "reaches recall 0.95 on average" in result.why
    assert "20 queries cannot show recall 0.95 with certainty" in result.why
    assert "at least 60 that choose" in result.why


def test_one_query_chooses_and_none_confirms(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    result = tune(database, workload.part(slice(1)), lists=[10], prediction=prediction, rounds=1)
    assert (result.workload.n_queries, result.workload.n_confirming) == (1, 0)
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["difficulty"] is not None
    if result.recommendation is not None:
        assert result.recommendation.confirmed_recall is None
        assert "There were no queries left to confirm it." in result.why
        assert "1 queries cannot show recall 0.95" in result.why


def test_a_target_of_one_is_reached_on_average_and_never_for_certain(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    result = tune(database, workload, target_recall=1.0, lists=[10], prediction=prediction,
                  rebuilds=1, rounds=1)  # fmt: skip
    assert any(point.recall == 1.0 for point in result.points)
    assert " inf " not in result.why
    if result.recommendation is not None:
        assert result.recommendation.recall == 1.0
        assert "no number of queries can" in result.why
    else:
        assert "no faster than the exact scan" in result.why


def test_within_a_budget_the_highest_recall_that_was_measured_is_recommended(
    database: Engine, workload: Workload, prediction: Prediction, found: TuningResult
) -> None:
    budget = 0.6 * found.exact.latency.p50_ms
    result = tune(database, workload, max_ms=budget, lists=LISTS, prediction=prediction,
                  rebuilds=0, rounds=2)  # fmt: skip
    assert (result.target_recall, result.max_ms) == (None, budget)
    within = [p for p in result.points if p.shuffled and p.latency.p50_ms <= budget]
    if not within:  # the machine was busy meanwhile
        assert result.recommendation is None
        assert result.why
        return
    advice, point = recommended(result)
    assert advice.recall == max(p.recall for p in within)
    assert f"the highest recall within {budget:g} ms" in result.why
    assert point.latency.p50_ms <= budget


def test_with_all_the_time_in_the_world_every_list_is_read(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    result = tune(database, workload, max_ms=1e6, lists=[10], prediction=prediction, rebuilds=0,
                  rounds=1)  # fmt: skip
    assert max(result.points, key=lambda point: point.probes).recall == 1.0
    if result.recommendation is None:
        assert "no faster than the exact scan" in result.why
    else:
        assert (result.recommendation.probes, result.recommendation.recall) == (10, 1.0)


def test_a_budget_that_nothing_keeps_ends_in_a_sentence(
    database: Engine, workload: Workload, prediction: Prediction
) -> None:
    result = tune(database, workload, max_ms=1e-4, lists=[38], prediction=prediction, rounds=1)
    assert result.recommendation is None
    assert "No measured setting keeps a p50 of 0.0001 ms." in result.why
    assert result.points[0].probes == 1
    assert scratch_schemas(database) == []


# --- vectors that an index cannot help


def test_of_random_vectors_it_is_said_before_and_after_that_there_is_little_to_gain(
    database: Engine,
) -> None:
    random = Workload.generated("random", 600, n_queries=80, dim=512)
    made = predict(random.split()[0], [16])
    result = tune(database, random, lists=[16], prediction=made, rebuilds=0, rounds=1)
    assert result.expectation.startswith("No IVFFlat setting can gain much over exact search")
    assert random.difficulty.verdict in result.expectation
    assert "little structure" in result.why or "no faster than the exact scan" in result.why


def test_when_all_vectors_are_equal_the_run_ends_and_says_so(database: Engine) -> None:
    equal = Workload.holding_out(np.ones((300, 8), np.float32), n_queries=40, k=5)
    result = tune(database, equal, rounds=1, rebuilds=1)
    json.dumps(result.as_dict(), allow_nan=False)
    assert result.difficulty is not None
    assert result.difficulty.verdict == "All rows are equal: none is nearer than another."
    assert result.why
    assert scratch_schemas(database) == []


# --- what cannot be run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_recall": 0.0}, "target recall is 0.0"),
        ({"target_recall": 1.5}, "target recall is 1.5"),
        ({"target_recall": float("nan")}, "target recall is nan"),
        ({"target_recall": 0.9, "max_ms": 5}, "exclude each other"),
        ({"max_ms": 0}, "latency budget is 0 ms"),
        ({"max_ms": float("nan")}, "latency budget is nan ms"),
        ({"max_ms": float("inf")}, "latency budget is inf ms"),
        ({"rounds": 0}, "rounds is 0"),
        ({"rebuilds": -1}, "rebuilds is -1"),
        ({"lists": [5, 40_000]}, "lists is 40000; pgvector takes 1 to 32768"),
        ({"lists": [5, 500]}, "lists is 500, but there are only 400 rows"),
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


def test_a_role_that_may_not_create_a_schema_is_told_what_to_grant(
    database: Engine, tmp_path: Path
) -> None:
    name = f"reader_{database.url.database}"
    with database.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN"))
    plain = engine_for(database.url.set(username=name))
    small = Workload.of(unit_rows(100, 4), unit_rows(20, 4, seed=1))
    run = runs.start(tmp_path, label="x", options={})
    try:
        with pytest.raises(LabError, match=r"(?s)may not create a schema.*GRANT CREATE"):
            tune(plain, small, run=run)
    finally:
        plain.dispose()
        with database.begin() as connection:
            connection.execute(sa.text(f"DROP ROLE {name}"))
    assert runs.load(tmp_path, str(run.name)).status == "failed"


def test_a_server_lost_in_the_middle_is_told_and_the_next_run_cleans_up(
    database: Engine, workload: Workload, prediction: Prediction, tmp_path: Path
) -> None:
    run = runs.start(tmp_path, label="x", options={})
    slow = replace(prediction, curves=(curve(np.linspace(0.5, 1, 1400)),))
    lost = threading.Thread(target=end_building, args=[database.url])
    lost.start()
    with pytest.raises(LabError, match=r"(?s)connection to the server was lost.*Run the same"):
        tune(database, workload, lists=[1400], prediction=slow, run=run)
    lost.join()
    assert runs.load(tmp_path, str(run.name)).status == "failed"
    tune(database, workload, lists=[10], prediction=prediction, rebuilds=0, rounds=1)
    assert scratch_schemas(database) == []


def end_building(url: sa.URL) -> None:
    """End every connection of this database once an index is being built, as a crash would."""
    engine = engine_for(url)
    wait_for_statement(engine, "CREATE INDEX lab_ivfflat")
    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "rows", "lists", "rounds"),
    [
        ("COPY ", 30_000, 1, 1),
        ("CREATE INDEX lab_ivfflat", 8_000, 2_000, 1),
        ("SELECT id FROM ", 4_000, 4, 2_000),
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


def test_an_interrupt_in_the_middle_of_any_statement_is_no_lost_connection(
    database: Engine, workload: Workload, prediction: Prediction, tmp_path: Path
) -> None:
    def interrupt(cursor: object, statement: str, *_: object) -> None:
        if "pg_relation_size" in statement:
            raise KeyboardInterrupt

    run = runs.start(tmp_path, label="x", options={})
    sa.event.listen(database, "do_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(database, workload, lists=[10], prediction=prediction, run=run)
    assert runs.load(tmp_path, str(run.name)).status == "interrupted"
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
