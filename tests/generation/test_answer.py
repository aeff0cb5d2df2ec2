"""Answers as they are shown: with their sources, and nothing that a page or terminal obeys."""

import json

import pytest

from resume_lab.generation import Answer
from resume_lab.generation.answer import PASSAGES, says_unknown

from .factory import hit

CSI = "\x1b[31m"
"""Turns a terminal red."""


def answer(**values: object) -> Answer:
    return Answer(
        **{
            "question": "Where?",
            "text": "At Harvard [2].",
            "hits": (hit("one", source_file="a.md"), hit("two", source_file="b.md")),
            "cited": (2,),
            "by": "small-model",
            "is_known": True,
            "note": None,
            **values,
        }  # type: ignore[arg-type]
    )


def test_the_text_comes_with_the_sources_that_it_cites_and_the_note() -> None:
    assert [(n, h.source_file) for n, h in answer().sources] == [(2, "b.md")]
    assert str(answer(note="Be careful.")) == (
        "At Harvard [2].\n\n[2] Harvard > Work > Mark I (b.md)\n\nBe careful."
    )


def test_an_answer_without_sources_and_note_is_its_text() -> None:
    assert str(answer(cited=())) == "At Harvard [2]."
    assert answer(cited=()).after_text() == ""


def test_passages_name_their_sources_themselves() -> None:
    shown = answer(by=PASSAGES, text="[1] Harvard (a.md)\none", cited=(1, 2), note="No model.")
    assert str(shown) == "[1] Harvard (a.md)\none\n\nNo model."
    assert len(shown.sources) == 2


def test_nothing_in_it_is_obeyed_by_a_terminal() -> None:
    shown = answer(
        text=f"a{CSI}b\r\n\tc\x9b\x00",
        hits=(hit(), hit(title=f"T{CSI}", source_file="x\n\x07y.md")),
        note=f"n{CSI}",
    )
    assert str(shown) == "a[31mb\n\tc\n\n[2] T[31m > Work > Mark I (x y.md)\n\nn[31m"
    assert shown.after_text().count("\x1b") == 0


def test_what_is_not_seen_or_turns_the_text_is_left_out() -> None:
    odd = "a\u202eb\u2066c\u200bd\ufeffe\U000e0041f\u2028g\u00a0h\u2009i\ud83dj\u00e9"
    assert str(answer(text=odd, cited=())) == "abcdef g h ij\u00e9"


def test_nothing_in_it_is_obeyed_by_a_page() -> None:
    script = "<script>alert('1')</script>"
    shown = answer(
        text=f"{script}\n&amp;{CSI}", hits=(hit(), hit(title=script)), note=script
    )._repr_html_()
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;alert(&#x27;1&#x27;)") == 3
    assert "\n&amp;amp;[31m" in shown
    assert "\x1b" not in shown
    assert shown.startswith("<pre style='white-space:pre-wrap")


def test_machines_get_plain_values() -> None:
    plain = json.loads(json.dumps(answer(note="n").as_dict(), allow_nan=False))
    assert plain["text"] == "At Harvard [2]."
    assert (plain["by"], plain["is_known"], plain["note"]) == ("small-model", True, "n")
    assert [(h["number"], h["is_cited"], h["source_file"]) for h in plain["hits"]] == [
        (1, False, "a.md"),
        (2, True, "b.md"),
    ]


@pytest.mark.parametrize(
    "text", ["I don't know.", "I don\u2019t know", " **i DON'T know!** [1]\n", "I do not know."]
)
def test_i_dont_know_is_understood_however_it_is_written(text: str) -> None:
    assert says_unknown(text)


@pytest.mark.parametrize("text", ["I don't know her name [1].", "She did.", "", "know"])
def test_other_answers_are_known(text: str) -> None:
    assert not says_unknown(text)
