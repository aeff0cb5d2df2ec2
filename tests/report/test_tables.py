"""Tables say everything that was measured, fit their place and let no markup through."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from resume_lab.errors import ExperimentError
from resume_lab.report import (
    frame_table,
    points_frame,
    points_table,
    predictions_frame,
    predictions_table,
)

from .factory import COST, curve, point, result, tuned

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


def test_latency_taken_alone_is_pale() -> None:
    assert "opacity: 0.5" in points_table(tuned()).to_html()
    assert "opacity: 0.5" not in points_table(result()).to_html()


def test_a_search_shows_predicted_recall_and_queries() -> None:
    page = points_table(tuned()).to_html()
    for heading in ("predicted", "queries"):
        assert f">{heading}<" in page
        assert f">{heading}<" not in points_table(result()).to_html()


def test_forecasts_are_the_fewest_probes_that_reach_the_target() -> None:
    frame = predictions_frame(tuned()).set_index("lists")
    expected = curve(100)
    probes = int(frame.loc[100, "probes"])
    assert expected.recall[probes - 1] >= 0.95 > expected.recall[probes - 2]
    assert frame.loc[100, "rows_scanned"] == expected.rows_scanned[probes - 1]
    assert frame.loc[100, "share"] == pytest.approx(frame.loc[100, "rows_scanned"] / 10_000)
    assert frame.loc[100, "p50_ms"] == pytest.approx(COST.p50_ms(expected)[probes - 1])


def test_forecasts_follow_another_target() -> None:
    frame = predictions_frame(tuned(), target_recall=0.8).set_index("lists")
    assert frame.loc[100, "probes"] == curve(100).probes_for(0.8)


def test_within_a_time_forecasts_are_the_most_probes_that_keep_it() -> None:
    frame = predictions_frame(tuned(target=None, max_ms=3.0)).set_index("lists")
    times = COST.p50_ms(curve(100))
    probes = int(frame.loc[100, "probes"])
    assert times[probes - 1] <= 3.0 < times[probes]
    assert predictions_frame(tuned(target=None, max_ms=0.1))["probes"].isna().all()


def test_the_table_of_forecasts_emphasises_the_best() -> None:
    page = predictions_table(tuned()).to_html()
    assert "fewest probes predicted to reach recall 0.95. Bold: fastest." in page
    assert page.count("font-weight: bold") == 1
    none = predictions_table(tuned(target=None, max_ms=0.1)).to_html()
    assert "font-weight: bold" not in none
    assert f">{DASH}<" in none


def test_without_predictions_there_is_no_table_of_them() -> None:
    with pytest.raises(ExperimentError, match="Nothing is predicted"):
        predictions_table(result())
