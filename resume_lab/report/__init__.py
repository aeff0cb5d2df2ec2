"""A tuning result for people: tables, figures and a page."""

from resume_lab.report.figures import (
    latency_distribution,
    recall_by_data,
    recall_latency,
    recall_probes,
)
from resume_lab.report.html import html_report, write_html
from resume_lab.report.tables import frame_table, points_frame, points_table, text_table

__all__ = [
    "frame_table",
    "html_report",
    "latency_distribution",
    "points_frame",
    "points_table",
    "recall_by_data",
    "recall_latency",
    "recall_probes",
    "text_table",
    "write_html",
]
