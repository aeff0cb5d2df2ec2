"""Tables say everything that was measured, fit their place and let no markup through."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from resume_lab.report import frame_table, points_frame, points_table, text_table
from resume_lab.tuning.results import TuningResult

from .factory import grid, point, result

DASH = "\N{EN DASH}"


def test_frame_has_the_names_and_values_of_the_json_form() -> None:
    found = result()
    frame = points_frame(found)
    first = json.loads(json.dumps(found.as_dict()["points"][0]))
    assert set(frame.columns) == set(first)
    assert len(frame) == len(found.points)
    assert frame.iloc[0].to_dict() == first


def test_missing_percentiles_are_missing_numbers() -> None:
    frame = points_frame(result((point(n=60),), n=60))
    assert frame["p95_ms"].notna().all()
    assert frame["p99_ms"].isna().all()
    assert frame["p99_ms"].dtype == np.float64


def test_no_points_make_an_empty_frame_with_all_columns() -> None:
    frame = points_frame(result(()))
    assert len(frame) == 0
    assert {"lists", "recall", "p50_ms"} <= set(frame.columns)


@pytest.mark.parametrize(
    "found",
    [
        result(),
        result(recommend=False),
        result(n=40),
        result((point(),)),
        result((point(recall=0.0), point(probes=100, recall=1.0))),
        result(grid((10, 20, 50, 100, 200, 500, 1000), n=60)),
        result((point(10_000, 10_000, p50_ms=98_765.4, exact_ms=9e6),), rows=10_000_000),
        result(source="a-very-long-name/" * 20),
    ],
)
def test_text_is_at_most_100_columns_wide(found: TuningResult) -> None:
    lines = text_table(found).splitlines()
    assert max(len(line) for line in lines) <= 100
    assert not any(line.endswith(" ") for line in lines)


def test_text_says_data_exact_scan_and_verdict() -> None:
    found = result()
    text = text_table(found)
    assert "synthetic/clustered/seed=0" in text
    assert "10,000 rows x 1536 d, cosine distance, 200 held-out queries, k = 10" in text
    assert "exact scan p50 18.0 ms" in text
    assert "400 samples a setting" in text
    assert found.why.split(":")[0][:60] in text.replace("\n", " ")


def test_text_marks_the_recommended_point_and_the_frontier() -> None:
    on = point(100, 8, recall=0.99, p50_ms=2.0)
    off = point(50, 8, recall=0.90, p50_ms=3.0)
    rows = [line for line in text_table(result((on, off))).splitlines() if line.endswith(" yes")]
    assert [(row[:2], row.split()[-11:-9]) for row in rows] == [
        ("  ", ["50", "8"]),
        (">*", ["100", "8"]),
    ]


def test_text_shows_a_dash_for_a_missing_percentile_and_says_why() -> None:
    text = text_table(result((point(n=40),), n=40))
    row = next(line for line in text.splitlines() if "0.6" in line and "yes" in line)
    assert row.split().count("-") == 2
    assert "p95 needs 59, p99 needs 299" in text


def test_notebook_table_has_units_sensible_digits_and_a_caption() -> None:
    page = points_table(result((point(recall=0.96249, p50_ms=1.5),))).to_html()
    for heading in ("recall@10", "p50 ms", "size MiB", "build s", "speed-up"):
        assert f">{heading}<" in page
    assert ">0.962<" in page
    assert "12.0x" in page
    assert "10,000 rows" in page
    assert "Warm: each query runs once" in page


def test_notebook_table_emphasises_only_the_recommended_row() -> None:
    found = result()
    page = points_table(found).to_html()
    emphasised = page.split("font-weight: bold")[0].rsplit("}", 1)[-1]
    rows = {cell.split("_")[1] for cell in emphasised.split("#T_")[1:] if cell}
    assert page.count("font-weight: bold") == 1
    assert len(rows) == 1
    assert "font-weight: bold" not in points_table(result(recommend=False)).to_html()


def test_notebook_table_shows_a_dash_and_the_reason() -> None:
    page = points_table(result((point(n=40),), n=40)).to_html()
    assert f">{DASH}<" in page
    assert "p95 needs 59" in page


def test_notebook_table_tells_two_kinds_of_index_apart() -> None:
    page = points_table(result((point(), point(index="halfvec")))).to_html()
    assert ">halfvec<" in page
    assert ">index<" not in points_table(result((point(),))).to_html()


def test_markup_in_data_is_escaped() -> None:
    bad = "<script>alert(1)</script>"
    both = (point(index=bad), point(index="ivfflat"))
    page = points_table(result(both, source=bad)).to_html()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_any_frame_becomes_a_table() -> None:
    frame = pd.DataFrame({"name": ["<b>"], "ms": [1.234], "gone": [None]})
    page = frame_table(frame, "one & two\nthree", {"ms": "{:.1f}"}).to_html()
    assert "&lt;b&gt;" in page
    assert ">1.2<" in page
    assert f">{DASH}<" in page
    assert "one &amp; two<br>three" in page


def test_empty_results_still_make_tables() -> None:
    page = points_table(result(())).to_html()
    assert "synthetic/clustered" in page
    assert "recommended" in text_table(result(()))
