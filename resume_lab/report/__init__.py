"""A tuning result for people: tables, figures, sliders and a page."""

from resume_lab.report.certainty import query_certainty, recall_distribution
from resume_lab.report.decision import decision
from resume_lab.report.evaluation import evaluation_chart, evaluation_table
from resume_lab.report.explorer import Explorer, explorer
from resume_lab.report.figures import (
    indexes_compared,
    latency_distribution,
    recall_by_data,
    recall_latency,
    recall_probes,
)
from resume_lab.report.growth import growth_cost, growth_table
from resume_lab.report.html import html_report, write_html
from resume_lab.report.predicted import predicted_curves, predicted_frontier
from resume_lab.report.tables import (
    frame_table,
    points_frame,
    points_table,
    predictions_frame,
    predictions_table,
)
from resume_lab.report.text import text_table

__all__ = [
    "Explorer",
    "decision",
    "evaluation_chart",
    "evaluation_table",
    "explorer",
    "frame_table",
    "growth_cost",
    "growth_table",
    "html_report",
    "indexes_compared",
    "latency_distribution",
    "points_frame",
    "points_table",
    "predicted_curves",
    "predicted_frontier",
    "predictions_frame",
    "predictions_table",
    "query_certainty",
    "recall_by_data",
    "recall_distribution",
    "recall_latency",
    "recall_probes",
    "text_table",
    "write_html",
]
