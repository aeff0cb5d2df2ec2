"""The page holds everything, needs nothing, lets no markup through and replaces a file whole."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from resume_lab import report
from resume_lab.errors import DataError
from resume_lab.report import html, html_report, write_html
from resume_lab.tuning.results import TuningResult

from .factory import grid, point, result, tuned

BAD = "<script>alert(1)</script>"
VOID = {"meta", "img", "br", "link"}


class Outline(HTMLParser):
    """Collect the tags with their attributes, and check that they are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return html_report(result())


@pytest.fixture(scope="module")
def searched() -> str:
    return html_report(tuned())


def test_every_tag_is_closed(page: str) -> None:
    assert Outline(page).open == []


def test_the_page_needs_no_other_file(page: str) -> None:
    outline = Outline(page)
    sources = [a[name] for _, a in outline.tags for name in ("src", "href") if name in a]
    assert len(sources) == 3
    assert all(source and source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not outline.all("script")
    assert not outline.all("link")
    assert not re.search(r"url\(|@import|https?://", page)


def test_the_verdict_comes_with_its_evidence_and_its_sql(page: str) -> None:
    verdict = page.split('class="verdict"')[1].split("</section>")[0]
    assert "lists 50, probes 16" in verdict
    assert "0.977" in verdict
    assert "0.968\N{EN DASH}0.986" in verdict
    assert "2.9x" in verdict
    assert "WITH (lists = 50);" in verdict
    assert "SET LOCAL ivfflat.probes = 16;" in verdict


def test_without_a_recommendation_the_page_says_why() -> None:
    found = result(grid((100,))[:4], recommend=False)
    page = html_report(found)
    assert "No setting is sure to meet the target recall 0.95" in page
    assert "the data has no clusters to probe" in page
    assert "The highest recall measured is 0.646" in page
    assert "Build the index" not in page


def test_a_search_shows_what_was_predicted_and_what_proves_it(searched: str) -> None:
    outline = Outline(searched)
    assert outline.open == []
    assert len(outline.all("img")) == 4
    verdict = searched.split('class="verdict"')[1].split("</section>")[0]
    assert "0.957" in verdict
    assert "0.941\N{EN DASH}0.970" in verdict
    assert "6, 8, 7" in verdict
    for fact in (
        "Expect recall 0.95 from about 3 % of the rows.",
        "intrinsic dimension",
        "fewest probes predicted to reach recall 0.95",
        "fitted to 12 measured points",
        "predicting 1.3 s",
    ):
        assert fact in searched


def test_latency_taken_alone_is_marked(searched: str, page: str) -> None:
    assert searched.count('class="alone">~') == 2 * sum(not p.shuffled for p in tuned().points)
    assert "is not compared" in searched
    assert 'class="alone"' not in page


def test_a_grid_has_nothing_predicted(page: str) -> None:
    assert "Predicted" not in page
    assert "How hard these vectors are" not in page


def test_a_latency_that_no_setting_keeps_is_named() -> None:
    page = html_report(tuned(target=None, max_ms=1.0, recommend=False))
    assert "No setting has a p50 latency at most 1 ms" in page


def test_a_target_that_is_met_is_not_called_missed() -> None:
    assert "No setting is recommended" in html_report(result(recommend=False))


def test_the_title_says_what_was_measured(page: str) -> None:
    title = page.split("<title>")[1].split("</title>")[0]
    assert title == "IVFFlat settings for synthetic/clustered/seed=0: 10,000 rows, recall@10"


def test_conditions_settings_versions_and_date_are_told(page: str) -> None:
    for fact in ("Warm: each query", "shared_buffers", "512MB", "16.4", "0.8.1", "2026-02-13"):
        assert fact in page


def test_images_have_a_text_and_headings_a_scope(page: str) -> None:
    outline = Outline(page)
    assert all(len(image["alt"] or "") > 80 for image in outline.all("img"))
    assert all("scope" in heading for heading in outline.all("th"))
    assert page.count('<th scope="row">') == len(result().points)


def test_markup_in_data_is_escaped() -> None:
    found = result((point(plan=BAD, index=BAD, recall=0.99),), source=BAD, plan=BAD)
    found = dataclasses.replace(found, why=BAD)
    place = dataclasses.replace(found.environment, settings={BAD: BAD}, machine=BAD, conditions=BAD)
    page = html_report(dataclasses.replace(found, environment=place))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_both_plans_are_shown_where_they_differ() -> None:
    page = html_report(result((point(plan="Seq Scan on rows", used_index=False, recall=0.99),)))
    assert "Seq Scan on rows" in page
    assert "Left free, the planner does not use this index." in page
    same = point()
    same = dataclasses.replace(same, plan=same.forced_plan)
    assert "the same when the planner is left free" in html_report(result((same,)))


def test_figures_of_an_index_never_used_are_called_so() -> None:
    page = html_report(result((point(recall=0.99, forced=False, used_index=False),)))
    assert "The index was never used." in page


@pytest.mark.parametrize(
    "found",
    [
        result((point(n=40),), n=40),
        result((point(recall=0.0), point(probes=100, recall=1.0))),
        result(grid((10, 20, 50, 100, 200, 500), n=60)),
        result(()),
        tuned(target=None, max_ms=3.0),
        tuned(confirmed=None, rebuilds=(None,)),
        dataclasses.replace(tuned(recommend=False), points=(), cost=None, difficulty=None),
    ],
)
def test_unusual_results_make_a_page(found: TuningResult) -> None:
    assert Outline(html_report(found)).open == []


def test_the_page_is_written_and_its_place_returned(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    assert write_html(result((point(),)), str(target)) == target
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [target]


def test_an_old_report_stays_when_rendering_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    monkeypatch.setattr(html, "TEMPLATE", "missing.jinja")
    with pytest.raises(Exception, match="missing"):
        write_html(result((point(),)), target)
    assert target.read_text() == "old"


def test_an_old_report_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def full(self: Path, text: str, encoding: str) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(DataError, match="No space left on device"):
            write_html(result((point(),)), target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_html(result((point(),)), tmp_path / "no such" / "report.html")
    assert f"there is no folder {tmp_path / 'no such'}" in caught.value.message
    assert caught.value.hint == f"Make it first: mkdir -p '{tmp_path / 'no such'}'"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Is a directory"):
        write_html(result((point(),)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_is_sorted_and_complete() -> None:
    assert report.__all__ == sorted(report.__all__)
    assert all(hasattr(report, name) for name in report.__all__)
