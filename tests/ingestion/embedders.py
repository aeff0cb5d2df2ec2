"""Embedders for tests: what they are asked is known, and they fail where they should."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


class Recording:
    """Embeds three texts a request, and remembers every text that was asked for."""

    def __init__(
        self,
        model: str = "fake",
        *,
        remote: bool = True,
        before: Callable[[int], object] = lambda request: None,
    ) -> None:
        self.model = model
        self.is_remote = remote
        self.asked: list[str] = []
        self._before = before
        self._requests = 0

    def batches(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        for first in range(0, len(texts), 3):
            self._before(self._requests)
            self._requests += 1
            some = texts[first : first + 3]
            self.asked += some
            yield np.stack([vector_of(text) for text in some])


def vector_of(text: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(1536)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
