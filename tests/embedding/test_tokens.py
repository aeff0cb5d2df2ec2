"""Tokens are those of the model, whatever the length of the text."""

import time
from itertools import accumulate

import bpe_openai
import numpy as np
import pytest

from resume_lab.embedding.tokens import count_tokens, token_ends

ENCODING = bpe_openai.get_encoding("cl100k_base")

TEXTS = [
    "",
    "one two three",
    "# Heading\n\n- item\n  - nested\n\n```py\nx = 1\n```\n",
    "Ça déjà vu, 汉字 測試 👩‍👩‍👧 \u1200\u1200 e\u0301",
    " \n\n\t \n  x  \n",
    "<|endoftext|> is text like any other",
    "\x0b\x1c\u2028\u3000\xa0",
]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_the_vocabulary(text: str) -> None:
    tokens = ENCODING.encode_ordinary(text)
    lengths = [len(ENCODING.decode_single_token_bytes(token)) for token in tokens]
    assert count_tokens(text) == len(tokens)
    assert token_ends(text).tolist() == list(accumulate(lengths))


def test_known_counts() -> None:
    assert count_tokens("hello world") == 2
    assert token_ends("hello world").tolist() == [5, 11]


@pytest.mark.parametrize(
    "line",
    [
        "A line of prose, 1234 and more.\n",
        "  - an item\n\n",
        "\tx\n \n\t\n",
        "x\r\n",
        "word " * 9 + "\n",
    ],
)
def test_a_text_in_many_pieces_has_the_tokens_it_has_in_one(line: str) -> None:
    text = line * (120_000 // len(line))
    assert count_tokens(text) == len(ENCODING.encode_ordinary(text))


def test_prose_without_a_newline_has_the_tokens_it_has_in_one_piece() -> None:
    text = "The computer counts every word of it, twice. " * 5_000
    assert count_tokens(text) == len(ENCODING.encode_ordinary(text))


@pytest.mark.parametrize(
    "text", ["ab1-" * 400_000, "\n" * 1_500_000, "汉" * 300_000, "👩‍👧" * 90_000]
)
def test_a_text_beyond_the_limits_of_one_call_is_counted_in_linear_time(text: str) -> None:
    start = time.perf_counter()
    ends = token_ends(text)
    assert time.perf_counter() - start < 30
    assert ends[-1] == len(text.encode())
    assert np.all(np.diff(ends) > 0)
    assert len(ends) == count_tokens(text)
