from resume_lab.report import growth_cost, growth_table
from resume_lab.report.facts import MISSING
from resume_lab.tuning.growth import GrownIndex
from resume_lab.tuning.results import WorkloadInfo

from .factory import point

WORKLOAD = WorkloadInfo(1000, 1536, 200, 10, "cosine", "clustered <vectors>")
FRESH = point(20, 2, recall=0.97, p50_ms=1.0)
CASES = {
    "new $topics": [
        GrownIndex(0, point(20, 2, recall=0.4, p50_ms=1.0), point(20, 9, recall=0.96, p50_ms=5.4)),
        GrownIndex(100, point(20, 2, recall=0.8, p50_ms=1.0), None),
        GrownIndex(1000, FRESH, FRESH),
    ]
}


def test_the_table_says_what_each_index_needs_and_when_a_rebuild_pays() -> None:
    page = growth_table(CASES, WORKLOAD, target_recall=0.95).to_html()
    for shown in ("0.400", "5.40", "10%", "&lt;vectors&gt;"):
        assert shown in page
    assert page.count(f">{MISSING}<") == 4  # of one: probes, p50; of two: pays
    assert f">{FRESH.build_s * 1000 / 4.4:,.0f}<" in page


def test_the_figure_names_each_case_with_its_probes() -> None:
    (axes,) = growth_cost(CASES, WORKLOAD, target_recall=0.95).axes
    (label,) = [text.get_text() for text in axes.get_legend().get_texts()]
    assert label == "new $topics\nprobes 2"
    assert axes.lines[0].get_xdata().tolist() == [0, 10, 100]
