"""Measure what the README shows, redraw its pictures, and print its table.

20,000 rows x 1536 on a server of its own; the table is that of a grid with 200 held-out queries,
the picture of the decision that of the tuner. Takes a few minutes; the machine should have nothing
else to do.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.seed_speed import empty_database
from resume_lab.config import project_root
from resume_lab.report import (
    points_frame,
    predicted_curves,
    recall_by_data,
    text_table,
)
from resume_lab.tuning import TuningResult, Workload, tune, tune_grid
from resume_lab.vectors import Kind

ROWS = 20_000
QUERIES = 200
LISTS = (20, 100, 141)
TARGET_RECALL = 0.95


def main() -> None:
    """Write the pictures to docs/ and print the cheapest setting of each kind and lists."""
    results: dict[str, TuningResult] = {}
    with empty_database() as engine:
        for kind in Kind:
            workload = Workload.generated(kind, ROWS, n_queries=QUERIES)
            results[kind.value] = tune_grid(
                engine, workload, lists=LISTS, target_recall=TARGET_RECALL, progress=True
            )
        workload = Workload.generated(Kind.CLUSTERED, ROWS)
        decided = tune(engine, workload, target_recall=TARGET_RECALL, progress=True)
    folder = project_root() / "docs"
    folder.mkdir(exist_ok=True)
    _write(folder / "recall_by_data.png", recall_by_data(results).png())
    _write(folder / "predicted_curves.png", predicted_curves(decided).png())
    print(text_table(decided))
    for result in results.values():
        print(f"\n{result.workload.source}, exact scan {result.exact.latency.p50_ms:.1f} ms")
        print(_cheapest(result))
        print(result.why)
    environment = decided.environment
    print(f"\n{environment.date}, {environment.machine}")
    print(f"PostgreSQL {environment.server_version}, pgvector {environment.pgvector_version}")


def _cheapest(result: TuningResult) -> str:
    points = points_frame(result)
    meets = [point.meets(TARGET_RECALL) for point in result.points]
    meeting = points[meets].sort_values("p50_ms")
    columns = ["probes", "recall", "recall_low", "recall_high", "p50_ms", "speedup_vs_exact"]
    return str(meeting.groupby("lists").first()[[*columns, "used_index"]].round(3).to_string())


def _write(path: Path, png: bytes) -> None:
    path.write_bytes(png)
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
