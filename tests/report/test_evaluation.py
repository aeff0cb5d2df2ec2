from resume_lab.report import evaluation_chart, evaluation_table
from resume_lab.retrieval import Evaluation

FOUND = {
    "vectors <only>": Evaluation(0.5, 0.3, 0.7, 0.375, 0.2, 0.6, 4, 5, (1, 2, None, None)),
    "hybrid": Evaluation(1.0, 0.4, 1.0, 0.875, 0.6, 1.0, 4, 5, (1, 1, 1, 2)),
}


def test_the_table_gives_values_intervals_and_counts() -> None:
    page = evaluation_table(FOUND, "4 questions").to_html()
    for shown in ("recall@5", "0.500 (0.300 to 0.700)", "3 of 4", "vectors &lt;only&gt;"):
        assert shown in page
    assert "95% interval" in page


def test_the_figure_has_a_mark_for_recall_and_mrr_of_each_search() -> None:
    (axes,) = evaluation_chart(FOUND, "Which is better").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["vectors <only>", "hybrid"]
    marks = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() in ("o", "s")]
    assert marks == [[0.5], [1.0], [0.375], [0.875]]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first is at the top
