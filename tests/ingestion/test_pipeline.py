"""Folders of Markdown into the tables: all of it, once, again, changed, killed half-way."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.config import Settings
from resume_lab.database.session import engine_for
from resume_lab.errors import ConfigError, DataError, SchemaError, ServiceError
from resume_lab.ingestion import IngestReport, ingest_content, pipeline, reading, remove_content
from tests.ingestion.embedders import Recording, vector_of

WORDS = ["compiler", "navy", "computer", "subroutine", "officer", "lecture", "machine", "relay"]


def paragraph(seed: int, words: int) -> str:
    chosen = np.random.default_rng(seed).choice(WORDS, words)
    return " ".join(chosen).capitalize() + "."


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    (folder / "work").mkdir(parents=True)
    (folder / "about.md").write_text(
        "---\ntitle: About\ntags: [navy, compilers]\nborn: 1906-12-09\nfacts: {ships: 1}\n---\n"
        + paragraph(0, 50)
    )
    (folder / "work" / "harvard.md").write_text(
        "# Harvard\n\n" + "\n\n".join(f"## Part {n}\n\n{paragraph(n, 120)}" for n in range(8))
    )
    (folder / "work" / "empty.md").write_text("---\ntitle: Nothing yet\n---\n")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lab_dir=tmp_path / "lab")


def ingest(
    folder: Path, engine: Engine, settings: Settings, embedder: Any = None, **options: Any
) -> IngestReport:
    return ingest_content(
        folder,
        engine=engine,
        settings=settings,
        embedder=embedder or Recording(),
        name=options.pop("name", "content"),
        chunk_size=options.pop("chunk_size", 128),
        overlap=options.pop("overlap", 20),
        **options,
    )


def rows(engine: Engine) -> list[Any]:
    """Return what stands in both tables, but for ids and times."""
    statement = """
        SELECT source_file, chunk_index, category, document_title, content, metadata_json,
               embedding_model, embedding::text AS embedding
        FROM document_chunks LEFT JOIN chunk_embeddings USING (chunk_id)
        ORDER BY source_file, chunk_index, embedding_model
    """
    with engine.connect() as connection:
        return [row._asdict() for row in connection.execute(sa.text(statement))]


def ids(engine: Engine, file: str) -> list[int]:
    statement = "SELECT chunk_id FROM document_chunks WHERE source_file = :file ORDER BY 1"
    with engine.connect() as connection:
        return list(connection.scalars(sa.text(statement), {"file": file}))


def test_chunks_titles_metadata_and_vectors_stand_in_the_tables(
    content: Path, database: Engine, settings: Settings
) -> None:
    embedder = Recording()
    report = ingest(content, database, settings, embedder)
    found = rows(database)
    about = next(row for row in found if row["source_file"] == "content/about.md")
    assert (about["document_title"], about["category"]) == ("About", None)
    assert about["metadata_json"]["tags"] == ["navy", "compilers"]
    assert about["metadata_json"]["born"] == "1906-12-09"
    assert about["metadata_json"]["facts"] == {"ships": 1}
    assert about["content"] == paragraph(0, 50)
    harvard = [row for row in found if row["source_file"] == "content/work/harvard.md"]
    assert len(harvard) > 5
    assert {row["category"] for row in harvard} == {"work"}
    assert harvard[-1]["metadata_json"]["resume_lab"]["headings"] == "Part 7"
    assert [row["chunk_index"] for row in harvard] == list(range(len(harvard)))
    empty = next(row for row in found if row["source_file"] == "content/work/empty.md")
    assert (empty["document_title"], empty["content"]) == ("Nothing yet", "")
    facts = "born: 1906-12-09; facts.ships: 1; tags: navy, compilers"
    texts = (f"About\n\n{facts}\n\n{paragraph(0, 50)}", "Nothing yet")
    assert set(texts) < set(embedder.asked)
    for row, text in zip((about, empty), texts, strict=True):
        assert np.allclose(json.loads(row["embedding"]), vector_of(text), atol=1e-6)
    assert (report.added, report.chunks, report.embedded) == (3, len(found), len(found))
    assert report.requests == -(-len(found) // 3)
    assert report.passed


def test_the_body_of_a_file_can_be_joined_again_from_its_rows(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    body = "".join(
        row["content"][row["metadata_json"]["resume_lab"]["overlap"] :]
        for row in rows(database)
        if row["source_file"] == "content/work/harvard.md"
    )
    assert body == (content / "work/harvard.md").read_text()


def test_the_same_again_asks_for_nothing_and_changes_nothing(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    before, numbers = rows(database), ids(database, "content/about.md")
    embedder = Recording()
    report = ingest(content, database, settings, embedder)
    assert (embedder.asked, report.unchanged, report.chunks) == ([], 3, 0)
    assert (rows(database), ids(database, "content/about.md")) == (before, numbers)


def test_a_changed_file_is_replaced_and_only_its_new_texts_are_embedded(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    kept = ids(database, "content/about.md")
    file = content / "work/harvard.md"
    file.write_text(file.read_text() + "\n\n## Part 8\n\n" + paragraph(99, 100))
    embedder = Recording()
    report = ingest(content, database, settings, embedder)
    assert (report.changed, report.unchanged) == (1, 2)
    assert 1 <= len(embedder.asked) <= 3
    assert report.reused >= 5
    assert ids(database, "content/about.md") == kept
    assert any(paragraph(99, 100)[-40:] in row["content"] for row in rows(database))
    fresh = sorted(map(str, rows(database)))
    remove_content("", name="content", engine=database, settings=settings)
    ingest(content, database, settings)
    assert sorted(map(str, rows(database))) == fresh


def test_a_moved_file_is_embedded_no_second_time(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    (content / "work/harvard.md").rename(content / "mark-one.md")
    embedder = Recording()
    report = ingest(content, database, settings, embedder)
    assert (embedder.asked, report.added, report.removed) == ([], 1, 1)
    assert {row["source_file"] for row in rows(database)} == {
        "content/about.md", "content/mark-one.md", "content/work/empty.md",
    }  # fmt: skip


def test_a_file_that_is_gone_is_removed_unless_told_otherwise(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    (content / "about.md").unlink()
    report = ingest(content, database, settings, keep_missing=True)
    assert (report.missing, report.removed) == (1, 0)
    assert ids(database, "content/about.md")
    report = ingest(content, database, settings)
    assert (report.missing, report.removed) == (0, 1)
    assert not ids(database, "content/about.md")


def test_a_second_model_adds_embeddings_only(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings, Recording("one"))
    numbers = ids(database, "content/work/harvard.md")
    report = ingest(content, database, settings, Recording("two"))
    assert (report.completed, report.chunks) == (3, 0)
    assert ids(database, "content/work/harvard.md") == numbers
    models = [row["embedding_model"] for row in rows(database)]
    assert models.count("one") == models.count("two") == len(models) / 2
    report = ingest(content, database, settings, Recording("two"))
    assert report.unchanged == 3


def test_embeddings_that_go_with_a_changed_file_are_named(
    content: Path, database: Engine, settings: Settings
) -> None:
    for model in ("one", "two"):
        ingest(content, database, settings, Recording(model))
    (content / "about.md").write_text("All new.")
    report = ingest(content, database, settings, Recording("two"))
    assert report.lost == {"one": 1}
    assert "ingest again with that model" in str(report)
    embedder = Recording("one")
    ingest(content, database, settings, embedder)
    assert len(embedder.asked) == 1


def test_other_models_keep_their_vectors_of_texts_that_stay(
    content: Path, database: Engine, settings: Settings
) -> None:
    for model in ("one", "two"):
        ingest(content, database, settings, Recording(model))
    file = content / "work/harvard.md"
    file.write_text(file.read_text() + "\n\n## Part 8\n\n" + paragraph(99, 100))
    (content / "about.md").rename(content / "profile.md")
    changed = Recording("two")
    assert ingest(content, database, settings, changed).lost == {"one": 1}
    other = Recording("one")
    assert ingest(content, database, settings, other).lost == {}
    assert other.asked == changed.asked
    assert 1 <= len(other.asked) <= 3
    vectors = {"one": [], "two": []}
    for row in rows(database):
        vectors[row["embedding_model"]].append((row["content"], row["embedding"]))
    assert vectors["one"] == vectors["two"]  # each text has its own, whichever way it came there


def test_a_changed_front_matter_is_taken_over(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    about = content / "about.md"
    about.write_text(about.read_text().replace("ships: 1", "ships: 2"))
    harvard = content / "work/harvard.md"
    harvard.write_text("---\nmark: [[1]]\n---\n" + harvard.read_text())
    embedder = Recording()
    report = ingest(content, database, settings, embedder)
    assert (report.changed, len(embedder.asked)) == (2, 2)  # the first chunk of each
    found = rows(database)
    assert found[0]["metadata_json"]["facts"] == {"ships": 2}
    assert {str(row["metadata_json"].get("mark")) for row in found if row["chunk_index"]} == {
        "[[1]]"
    }


def test_chunks_of_another_splitter_are_replaced_when_a_model_is_added(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE document_chunks SET metadata_json = jsonb_set(metadata_json, "
                "'{resume_lab,text_hash}', '\"old\"') WHERE source_file = 'content/about.md'"
            )
        )
    report = ingest(content, database, settings, Recording("two"))
    assert (report.changed, report.completed) == (1, 2)


def test_a_file_of_which_some_chunks_lack_an_embedding_gets_these_alone(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    before = rows(database)
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "DELETE FROM chunk_embeddings "
                "WHERE chunk_id = (SELECT max(chunk_id) FROM document_chunks)"
            )
        )
    embedder = Recording()
    report = ingest(content, database, settings, embedder)
    assert (report.completed, len(embedder.asked), report.chunks) == (1, 1, 0)
    assert "kept, different texts embedded: 1 (requests: 1)" in str(report)
    assert rows(database) == before


def test_a_text_is_embedded_once_whatever_file_batch_or_folder_it_stands_in(
    content: Path, database: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_CHUNKS", 1)
    (content / "copy.md").write_text((content / "about.md").read_text())
    embedder = Recording()
    ingest(content, database, settings, embedder)
    assert len(embedder.asked) == len(set(embedder.asked))
    again = Recording()
    report = ingest(content, database, settings, again, name="elsewhere")
    assert (report.added, again.asked) == (4, [])


def test_another_chunking_replaces_all_and_reuses_what_is_the_same(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    embedder = Recording()
    report = ingest(content, database, settings, embedder, chunk_size=400)
    assert report.changed == 3
    assert report.reused == 2  # the two files of one chunk
    assert ingest(content, database, settings, chunk_size=400).unchanged == 3


def test_a_bad_file_stops_no_other_and_keeps_the_rows_it_had(
    content: Path, database: Engine, settings: Settings
) -> None:
    ingest(content, database, settings)
    before = rows(database)
    (content / "about.md").write_text("---\ntitle: [unclosed\n---\ntext")
    (content / "latin.md").write_bytes(b"caf\xe9\n")
    (content / "new.md").write_text("A new one.")
    report = ingest(content, database, settings)
    assert not report.passed
    assert {problem.file for problem in report.problems} == {"content/about.md", "content/latin.md"}
    assert (report.added, report.removed) == (1, 0)
    assert [row for row in rows(database) if row["source_file"] != "content/new.md"] == before
    assert "FAILED" in str(report)


def test_an_embedder_that_fails_half_way_is_not_asked_again_for_what_it_gave(
    content: Path, database: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_CHUNKS", 1)

    def fail(request: int) -> None:
        if request == 2:
            raise ServiceError("The network is gone.", hint="Look at the cable.")

    first, second = Recording(before=fail), Recording()
    with pytest.raises(ServiceError, match="2 of 3 files are stored") as raised:
        ingest(content, database, settings, first)
    assert "Look at the cable" in str(raised.value)
    assert "content/work/harvard.md" not in {row["source_file"] for row in rows(database)}
    ingest(content, database, settings, second)
    assert len(set(first.asked + second.asked)) == len(first.asked + second.asked)
    assert not list((settings.lab_dir / "embedded").iterdir())
    assert ingest(content, database, settings).unchanged == 3


KILLED = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from resume_lab.config import Settings
from resume_lab.database.session import engine_for
from resume_lab.ingestion import ingest_content
from tests.ingestion.embedders import Recording
folder, lab, url, request = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def kill(n):
    if n == request:
        print(*embedder.asked, sep="\\x1e", end="", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

embedder = Recording(before=kill)
ingest_content(folder, engine=engine_for(sa.make_url(url)), settings=Settings(lab_dir=lab),
               embedder=embedder, name="content", chunk_size=128, overlap=20)
"""


@pytest.mark.parametrize("request_number", [0, 2])
def test_killed_and_started_again_it_is_as_if_never_killed(
    content: Path, database: Engine, settings: Settings, request_number: int
) -> None:
    url = database.url.render_as_string(hide_password=False)
    arguments = [str(content), str(settings.lab_dir), url, str(request_number)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    asked = killed.stdout.split("\x1e") if killed.stdout else []
    assert len(asked) == 3 * request_number
    assert rows(database) == []
    embedder = Recording()
    ingest(content, database, settings, embedder)
    assert not set(embedder.asked) & set(asked)
    interrupted = rows(database)
    remove_content("", name="content", engine=database, settings=settings)
    ingest(content, database, settings)
    assert rows(database) == interrupted


def test_two_at_once_leave_each_chunk_once(
    content: Path, database: Engine, settings: Settings
) -> None:
    with ThreadPoolExecutor(4) as pool:
        models = ["one", "one", "two", "two"]
        reports = list(
            pool.map(
                lambda m: ingest(content, database, settings, Recording(m, remote=False)), models
            )
        )
    assert all(report.passed for report in reports)
    found = [
        (row["source_file"], row["chunk_index"], row["embedding_model"]) for row in rows(database)
    ]
    assert len(found) == len(set(found))
    assert sum(model == "one" for *_, model in found) == sum(model == "two" for *_, model in found)


def test_each_folder_has_rows_of_its_own(
    content: Path, database: Engine, settings: Settings, tmp_path: Path
) -> None:
    other = tmp_path / "content-two"
    other.mkdir()
    (other / "about.md").write_text("Somebody else.")
    ingest(content, database, settings)
    report = ingest(other, database, settings, name="content-two")
    assert (report.added, report.removed) == (1, 0)
    assert ingest(content, database, settings).removed == 0
    assert remove_content(other, name="content-two", engine=database, settings=settings) == 1
    assert len({row["source_file"] for row in rows(database)}) == 3
    ingest(other, database, settings, name="content-two")
    assert remove_content(content, name="content", engine=database, settings=settings) == 3
    assert [row["source_file"] for row in rows(database)] == ["content-two/about.md"]
    remove_content(other, name="content-two", engine=database, settings=settings)
    with pytest.raises(DataError, match="Nothing is stored under content-two/"):
        remove_content(other, name="content-two", engine=database, settings=settings)


def test_a_file_that_cannot_be_looked_at_is_not_gone(
    content: Path, database: Engine, settings: Settings
) -> None:
    (content / "work/drafts").mkdir()
    (content / "work/drafts/draft.md").write_text("A draft.")
    (content / "link.md").write_text("A file still.")
    ingest(content, database, settings)
    (content / "work/drafts").rename(content / "work/elsewhere")
    (content / "work/drafts").symlink_to(content)  # a loop
    (content / "link.md").unlink()
    (content / "link.md").symlink_to(content / "nowhere.md")
    report = ingest(content, database, settings)
    assert (report.added, report.removed, len(report.problems)) == (1, 0, 2)
    assert ids(database, "content/link.md")
    assert ids(database, "content/work/drafts/draft.md")


def test_a_hidden_folder_that_was_ingested_by_itself_stays(
    content: Path, database: Engine, settings: Settings
) -> None:
    (content / ".drafts").mkdir()
    (content / ".drafts/draft.md").write_text("A draft.")
    ingest(content / ".drafts", database, settings, name="content/.drafts")
    assert ingest(content, database, settings).removed == 0
    assert ids(database, "content/.drafts/draft.md")


def test_the_category_is_that_of_the_folder_that_is_ingested(
    content: Path, database: Engine, settings: Settings
) -> None:
    (content / "work/posts").mkdir()
    (content / "work/posts/one.md").write_text("A post.")
    ingest(content / "work", database, settings, name="content/work")
    ingest(content, database, settings)
    (category,) = {
        row["category"] for row in rows(database) if row["source_file"].endswith("posts/one.md")
    }
    assert category == "work"


def test_rows_that_were_not_ingested_are_left_alone(
    content: Path, database: Engine, settings: Settings
) -> None:
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO document_chunks (content, source_file, chunk_index) "
                "VALUES ('by hand', 'content/about.md', 0)"
            )
        )
    ingest(content, database, settings)
    remove_content(content, name="content", engine=database, settings=settings)
    assert [row["content"] for row in rows(database)] == ["by hand"]


def test_the_name_of_a_folder_is_its_path_from_the_project(tmp_path: Path) -> None:
    root = pipeline.project_root()
    assert pipeline.default_name(root / "content") == "content"
    assert pipeline.default_name(root / "notebooks" / ".." / "content" / "work") == "content/work"
    assert pipeline.default_name(tmp_path) == tmp_path.resolve().as_posix()
    for name in ("", " ", "/", "a\nb"):
        with pytest.raises(ConfigError, match="cannot be used"):
            pipeline.checked_name(name)


def test_what_cannot_be_asked_is_refused_before_anything_is_read(
    content: Path, database: Engine, empty_database: Engine, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        ingest(content, database, settings, overlap=100)
    with pytest.raises(DataError, match="nowhere"):
        ingest(tmp_path / "nowhere", database, settings)
    with empty_database.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num text)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('5a003342d559')"))
    with pytest.raises(SchemaError, match="newer ones wait"):
        ingest(content, empty_database, settings)


def test_a_report_says_what_was_done_as_text_html_and_json(
    content: Path, database: Engine, settings: Settings
) -> None:
    (content / "<b>.md").write_bytes(b"\xff")
    report = ingest(content, database, settings)
    assert "3 new, 1 failed" in str(report)
    assert "<b>.md" not in report._repr_html_()
    assert "&lt;b&gt;.md" in report._repr_html_()
    assert json.loads(json.dumps(report.as_dict()))["passed"] is False


def test_a_lock_kept_by_another_session_is_named(
    content: Path, database: Engine, settings: Settings
) -> None:
    impatient = engine_for(database.url.update_query_dict({"options": "-c lock_timeout=200ms"}))
    with database.begin() as connection:
        connection.execute(sa.text("LOCK TABLE document_chunks IN SHARE MODE"))
        with pytest.raises(SchemaError, match="Another session holds a lock"):
            ingest(content, impatient, settings)
    impatient.dispose()
    assert rows(database) == []
