"""Questions in text: what is refused, what is looked at, and what a hit says."""

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import schema
from resume_lab.errors import DataError, SchemaError
from resume_lab.retrieval import search
from tests.retrieval.stored import MODEL, FakeEmbedder, axes, store

ASKED = "Who wrote the first compiler?"


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder({ASKED: axes(1), "the": axes(1)})


@pytest.fixture
def filled(database: Engine) -> Engine:
    tagged = {"tags": ["compilers", "cobol"]}
    store(database, "opposite", axes(-1), category="work", metadata_json=tagged)
    store(database, "near", axes(3, 4), category="navy", metadata_json={"tags": ["compilers"]})
    store(database, "same", axes(2), category="work", metadata_json={"tags": "compilers"})
    store(database, "across", axes(0, 1), category="navy", metadata_json=tagged)
    store(database, "another model's", axes(1), model="fake/other", category="work")
    return database


def test_hits_come_by_cosine_similarity_from_one_model(
    filled: Engine, embedder: FakeEmbedder
) -> None:
    result = search(ASKED, engine=filled, embedder=embedder)
    assert [hit.content for hit in result] == ["same", "near", "across", "opposite"]
    assert [hit.score for hit in result] == pytest.approx([1, 0.6, 0, -1])
    assert (result.question, result.model, result.explanation) == (ASKED, MODEL, None)
    assert all(hit.vector_rank is hit.word_rank is None for hit in result)


@pytest.mark.parametrize(
    ("category", "tags", "found"),
    [
        ("work", None, ["same", "opposite"]),
        (None, ["compilers"], ["near", "across", "opposite"]),
        (None, ["cobol", "compilers"], ["across", "opposite"]),
        ("navy", ["cobol"], ["across"]),
        ("Navy", [], []),
    ],
)
@pytest.mark.parametrize("by", ["vectors", "hybrid"])
def test_filters_by_category_and_all_tags(
    filled: Engine,
    embedder: FakeEmbedder,
    category: str | None,
    tags: list[str] | None,
    found: list[str],
    by: str,
) -> None:
    result = search(ASKED, engine=filled, embedder=embedder, category=category, tags=tags, by=by)
    contents = [hit.content for hit in result]
    assert (contents if by == "vectors" else sorted(contents, key=found.index)) == found


def test_k_limits_the_hits_and_may_exceed_the_rows(filled: Engine, embedder: FakeEmbedder) -> None:
    assert len(search(ASKED, engine=filled, embedder=embedder, k=2)) == 2
    assert len(search(ASKED, engine=filled, embedder=embedder, k=1000)) == 4


def test_a_hit_tells_where_it_stands(database: Engine, embedder: FakeEmbedder) -> None:
    own = {"headings": "Work > Harvard", "overlap": 0, "file_hash": "ab"}
    store(
        database,
        "The moth.",
        axes(1),
        source_file="content/work/mark.md",
        category="work",
        document_title="Mark II",
        chunk_index=7,
        metadata_json={"year": 1947, "resume_lab": own},
    )
    (hit,) = search(ASKED, engine=database, embedder=embedder)
    assert (hit.title, hit.headings, hit.chunk_index) == ("Mark II", "Work > Harvard", 7)
    assert hit.metadata == {"year": 1947}
    assert hit.place == "Mark II > Work > Harvard (content/work/mark.md)"


@pytest.mark.parametrize("metadata", [{}, [], "text", {"resume_lab": 1}, {"resume_lab": {}}])
def test_rows_that_somebody_else_wrote_are_found(
    database: Engine, embedder: FakeEmbedder, metadata: object
) -> None:
    store(database, "mine", axes(1), metadata_json=metadata)
    (hit,) = search(ASKED, engine=database, embedder=embedder)
    assert (hit.category, hit.title, hit.headings, hit.metadata) == (None, None, "", {})
    assert hit.place == "content/a.md"


def test_explained_as_exact_with_the_rows_compared(filled: Engine, embedder: FakeEmbedder) -> None:
    result = search(ASKED, engine=filled, embedder=embedder, explain=True)
    assert result.explanation == f"Exact: no tuned index for {MODEL}; 4 rows were compared."
    result = search(ASKED, engine=filled, embedder=embedder, category="navy", explain=True)
    assert result.explanation == (
        f"Exact: no tuned index for {MODEL}; 2 rows that match the filter were compared."
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"question": " \n"}, "question is blank"),
        ({"question": "x" * 100_000}, "100,000 characters; permitted: 20,000"),
        ({"question": "a\0b"}, "no text"),
        ({"question": "a\ud800b"}, "no text"),
        ({"k": 0}, "k is 0; permitted: 1 to 1,000"),
        ({"k": 1001}, "k is 1001"),
        ({"category": ""}, "category is blank"),
        ({"category": "a\0"}, "no text"),
        ({"model": " "}, "model is blank"),
        ({"model": "a\0"}, "no text"),
        ({"tags": ["a", " "]}, "tag is blank"),
        ({"tags": ["\udfff"]}, "no text"),
        ({"tags": "cobol"}, r"tags=\['cobol'\]"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_connected(
    embedder: FakeEmbedder, options: dict, said: str
) -> None:
    nowhere = sa.create_engine("postgresql+psycopg2://nowhere.invalid/none")
    with pytest.raises(DataError, match=said) as refused:
        search(**({"question": ASKED} | options), engine=nowhere, embedder=embedder)
    assert refused.value.hint
    assert not embedder.asked


def test_a_model_without_rows_names_those_with_rows(filled: Engine, embedder: FakeEmbedder) -> None:
    embedder.model = "fake/none"
    with pytest.raises(DataError, match="No chunk is embedded by fake/none") as refused:
        search(ASKED, engine=filled, embedder=embedder)
    assert "fake/axes (4), fake/other (1)" in refused.value.message
    assert "resume-lab ingest FOLDER" in refused.value.hint
    assert not embedder.asked


def test_empty_tables_say_so(database: Engine, embedder: FakeEmbedder) -> None:
    with pytest.raises(DataError, match="resume-lab ingest FOLDER"):
        search(ASKED, engine=database, embedder=embedder)


def test_tables_that_are_missing_or_old_ask_for_a_migration(
    empty_database: Engine, embedder: FakeEmbedder
) -> None:
    with pytest.raises(SchemaError, match="resume-lab migrate"):
        search(ASKED, engine=empty_database, embedder=embedder)
    schema.upgrade(empty_database, "5a003342d559")
    with empty_database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO document_chunks (chunk_id, content, source_file, chunk_index) "
                "VALUES (1, 'old', 'old', 0)"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO chunk_embeddings (chunk_id, embedding, embedding_model) "
                "VALUES (1, CAST(:vector AS vector), :model)"
            ),
            {"vector": str(axes(1).tolist()), "model": MODEL},
        )
    assert len(search(ASKED, engine=empty_database, embedder=embedder)) == 1
    with pytest.raises(SchemaError, match="resume-lab migrate"):
        search(ASKED, engine=empty_database, embedder=embedder, by="hybrid")


def test_a_row_of_zeros_is_similar_to_nothing(database: Engine, embedder: FakeEmbedder) -> None:
    store(database, "zeros", axes())
    store(database, "far", axes(-1))
    result = search(ASKED, engine=database, embedder=embedder, k=1)
    assert [hit.content for hit in result] == ["far"]
    result = search(ASKED, engine=database, embedder=embedder)
    assert np.isfinite([hit.score for hit in result]).all()


def test_a_filter_that_matches_nothing_is_told_what_there_is(
    filled: Engine, embedder: FakeEmbedder
) -> None:
    result = search(ASKED, engine=filled, embedder=embedder, category="Navy", tags=["COBOL"])
    assert str(result) == (
        "No stored chunk matches the filter. Stored categories: navy, work. "
        "Stored tags: cobol, compilers."
    )
    assert result.as_dict()["note"] in result._repr_html_()
    elsewhere = search(ASKED, engine=filled, embedder=embedder, source="elsewhere")
    assert elsewhere.note == "No stored chunk matches the filter."
