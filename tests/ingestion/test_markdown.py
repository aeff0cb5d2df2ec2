"""A file becomes a document, or the reason why not with the line of the file."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from resume_lab.ingestion.discovery import FoundFile
from resume_lab.ingestion.front_matter import MAX_CHARS
from resume_lab.ingestion.markdown import MAX_BYTES, Document, UnreadableFile, read_document


def read(text: str | bytes, source_file: str = "content/work/harvard.md") -> Document:
    data = text.encode() if isinstance(text, str) else text
    folder = source_file.split("/")[1] if source_file.count("/") > 1 else None
    return read_document(data, FoundFile(Path(source_file), source_file, folder))


def metadata(front: str) -> dict[str, Any]:
    return read(f"---\n{front}\n---\n").metadata


def problem(text: str | bytes) -> tuple[str, int | None]:
    with pytest.raises(UnreadableFile) as caught:
        read(text)
    return caught.value.reason, caught.value.line


def test_front_matter_and_body_are_told_apart() -> None:
    document = read("---\ntitle: At Harvard\ncategory: jobs\ntags: [navy]\n---\n\n  Text\n\n")
    assert document == Document(
        source_file="content/work/harvard.md",
        title="At Harvard",
        category="jobs",
        tags=("navy",),
        metadata={"tags": ["navy"]},
        body="\n  Text\n\n",
        body_line=6,
    )


@pytest.mark.parametrize(
    ("text", "body", "body_line"),
    [
        ("Text", "Text", 1),
        ("", "", 1),
        ("---\n---\nText", "Text", 3),
        ("---\n---", "", 2),
        ("--- \na: 1\n---\t\nText\n---\nmore", "Text\n---\nmore", 4),
        ("---\nno end", "---\nno end", 1),
        ("\n---\na: 1\n---\n", "\n---\na: 1\n---\n", 1),
        ("-----\nText\n-----\n", "-----\nText\n-----\n", 1),
        ("---\r\na: 1\r\n---\r\nText\r\nmore\rend", "Text\nmore\nend", 4),
    ],
)
def test_the_body_is_kept_as_it_is(text: str, body: str, body_line: int) -> None:
    document = read(text)
    assert (document.body, document.body_line) == (body, body_line)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
)  # the last two write a byte order mark
def test_encodings_that_say_so_are_read(encoding: str) -> None:
    document = read("---\ntitle: Café\n---\nDéjà".encode(encoding))
    assert (document.title, document.body) == ("Café", "Déjà")


def test_other_bytes_are_refused_with_their_line() -> None:
    assert problem("a\r\nb\rcafé".encode("latin-1")) == ("not UTF-8: byte 0xe9", 3)
    assert problem(b"\xff\xfea\0\n\0\x00\xd8") == ("not UTF-16: byte 0x00", 2)
    assert problem(b"a\n\xef\xbb") == ("not UTF-8: byte 0xef", 2)
    reason, line = problem(b"a\nb\0")
    assert "NUL" in reason
    assert line == 2


def test_a_file_may_have_ten_megabytes() -> None:
    assert len(read(b"a" * MAX_BYTES).body) == MAX_BYTES
    assert problem(b"a" * (MAX_BYTES + 1)) == ("too large: 10.1 MB, at most 10 MB", None)


def test_values_become_plain_json() -> None:
    values = metadata(
        "day: 1906-12-09\nat: 2001-12-14T21:59:43Z\nflags: [true, null, 1, 1.5]\n"
        "nested: {a: {b: [c]}}\nset: !!set {y, x}\nbytes: !!binary aGk=\nnan: .nan\ninf: -.inf\n"
        "2: two\nyes: key\n2020-01-01: date\npairs: !!omap [a: 1]\ntime: 12:30"
    )
    assert values == {
        "day": "1906-12-09",
        "at": "2001-12-14T21:59:43+00:00",
        "flags": [True, None, 1, 1.5],
        "nested": {"a": {"b": ["c"]}},
        "set": ["x", "y"],
        "bytes": "aGk=",
        "nan": "nan",
        "inf": "-inf",
        "2": "two",
        "true": "key",
        "2020-01-01": "date",
        "pairs": [["a", 1]],
        "time": 750,
    }
    json.dumps(values, allow_nan=False)


def test_a_number_too_long_to_write_is_text() -> None:
    assert json.dumps(metadata("n: 0x" + "f" * 5_000)).count("f") == 5_000


@pytest.mark.parametrize(
    ("front", "reason", "line"),
    [
        (
            "a: 1\nb: c: d",
            "bad YAML: mapping values are not allowed in this context: "
            "put a value that holds a colon and a space in quotes",
            3,
        ),
        ("a: *x", "bad YAML: found undefined alias", 2),
        ("a: 1\n\nb: \x07", "bad YAML: the character 0x07 is not allowed", 4),
        ("a: 1\nb: 2024-13-45", "bad YAML: '2024-13-45' is not a valid timestamp", 3),
        ("a: !!int ''", "bad YAML: '' is not a valid int", 2),
        ("a: !!bool maybe", "bad YAML: 'maybe' is not a valid bool", 2),
        ("? [a]\n: b", "bad YAML: while constructing a mapping: found unhashable key", 2),
        ("- a\n- b", "the front matter is a list, not key: value", 1),
        ("Only text", "the front matter is text, not key: value", 1),
        ("a: 1\nresume_lab: {}", "the key resume_lab is reserved", 3),
        ('a: "\\0"', "the front matter holds a NUL character", None),
    ],
)
def test_bad_front_matter_is_refused_with_its_line(
    front: str, reason: str, line: int | None
) -> None:
    assert problem(f"---\n{front}\n---\nText") == (reason, line)


def test_an_unknown_tag_is_refused() -> None:
    reason, line = problem("---\na: !!python/name:os.system x\n---\n")
    assert "could not determine a constructor" in reason
    assert line == 2


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("front", "reason"),
    [
        (BOMB, "more than 10,000 values"),
        (MERGES, "more than 10,000 values"),
        ("a: [" + "1, " * 10_000 + "]", "more than 10,000 values"),
        (f"a: &a {'x' * 50_000}\nb: [{'*a, ' * 100}]", "more than 10,000 values"),
        ("a: &a [*a]", "nested deeper than 50 levels"),
        ("a: " + "[" * 51 + "]" * 51, "nested deeper than 50 levels"),
        ("a: " + "[" * 90_000, "nested deeper than 50 levels"),
        ("- " * 45_000, "nested deeper than 50 levels"),
    ],
)
def test_front_matter_that_would_explode_is_refused_at_once(front: str, reason: str) -> None:
    start = time.perf_counter()
    assert reason in problem(f"---\n{front}\n---\n")[0]
    assert time.perf_counter() - start < 20


def test_front_matter_may_have_a_hundred_thousand_characters() -> None:
    longest = f"\na: {'x' * (MAX_CHARS - 5)}\n"
    assert read(f"---{longest}---\nText").body == "Text"
    too_long = "\n[" + "x" * 511_998  # no YAML: its length is looked at first
    reason = "the front matter has 512,001 characters, at most 100,000"
    assert problem(f"---{too_long}\n---\nText") == (reason, None)


def test_aliases_in_measure_are_kept() -> None:
    assert metadata("a: &a {x: [1]}\nb: {<<: *a, y: *a}") == {
        "a": {"x": [1]},
        "b": {"x": [1], "y": {"x": [1]}},
    }
    assert metadata("a: " + "[" * 49 + "]" * 49)["a"] != []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntitle: '  Two\n\n  lines '\n---\n# Heading", "Two lines"),
        ("---\ntitle: 2024\n---\n", "2024"),
        ("---\ntitle: true\n---\n", "true"),
        ("---\ntitle: 1906-12-09\n---\n", "1906-12-09"),
        ("---\ntitle:\n---\n# From the *body*", "From the body"),
        ("---\ntitle: ' '\n---\n", "harvard"),
        ("```\n# code\n```\n\n#\n\nSetext [link](x) `b` &amp;\n===\n\n# Later", "Setext link b &"),
        ("> # quoted\n\n- # listed\n", "harvard"),
        ("a\n\n" * 100 + "## Far down ##\n", "Far down"),
        ("![alt](x.png) <b>x</b>\n---\n", "alt x"),
        ("# [a][b] C#\n", "a C#"),
    ],
)
def test_the_title_is_named_or_the_first_heading_or_the_file(text: str, title: str) -> None:
    assert read(text).title == title


def test_the_title_of_an_index_is_its_folder() -> None:
    assert read("", "content/jobs/Apple/index.md").title == "Apple"
    assert read("", "content/Index.markdown").title == "content"
    assert read("", "content/ .md").title == "content/ .md"


def test_long_titles_and_categories_are_cut() -> None:
    document = read(f"---\ntitle: {'t' * 600}\ncategory: {'c' * 600}\n---\n")
    assert document.title == "t" * 500
    assert document.category == "c" * 100


def test_the_category_falls_back_to_the_folder() -> None:
    assert read("", "content/jobs/a/b.md").category == "jobs"
    assert read("", "content/b.md").category is None
    assert read("---\ncategory: 7\n---\n").category == "7"


def test_a_title_that_is_a_list_stays_in_the_metadata() -> None:
    document = read("---\ntitle: [a, b]\n---\n")
    assert (document.title, document.metadata) == ("harvard", {"title": ["a", "b"]})


@pytest.mark.parametrize(
    ("front", "tags"),
    [
        ("tags: [b, ' a  c ', b, '', null, 3, true, 1906-12-09]", "b|a c|3|true|1906-12-09"),
        ("tags: b, a,, b", "b|a"),
        ("tags: one", "one"),
        ("tags: 2024", "2024"),
        ("tags: [[a], {b: c}]", ""),
        ("tags: []", ""),
        ("tags:", ""),
        ("other: 1", ""),
    ],
)
def test_tags_are_a_list_of_texts(front: str, tags: str) -> None:
    document = read(f"---\n{front}\n---\n")
    assert list(document.tags) == [tag for tag in tags.split("|") if tag]
    assert document.metadata.get("tags", []) == list(document.tags)


def test_a_text_that_is_all_brackets_is_read_in_linear_time() -> None:
    start = time.perf_counter()
    read("# " + "[" * 100_000)
    read("a\n" * 50_000 + "# far")
    assert time.perf_counter() - start < 30
