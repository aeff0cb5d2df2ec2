"""Clients that search all the time: threads of this process, or of several; and what they saw."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from benchmarks.search_overhead import MODEL
from resume_lab.database.session import engine_for
from resume_lab.retrieval import SearchResult, search_vector
from resume_lab.tuning.results import Latency
from resume_lab.vectors import RecallSummary, summarise

K = 10
MOST_SEARCHES = 50_000
"""Of all clients together, in one step."""

Vectors = NDArray[np.float32]
Search = Callable[[int], SearchResult]
"""Given the number of a query, searches for it."""
Truth = Sequence[frozenset[int]]
"""Of each query, the numbers of its K nearest rows."""


@dataclass(frozen=True)
class Load:
    """What clients saw. `asked` and `found` count, for each query, searches and neighbours.

    `rounds` is how often the work was done beside them.
    """

    samples_ms: NDArray[np.float64]
    asked: NDArray[np.int64]
    found: NDArray[np.int64]
    errors: Counter[str]
    seconds: float
    rounds: int = 0

    @classmethod
    def of(cls, parts: Sequence[Load]) -> Load:
        """Put together what was seen at the same time."""
        return cls(
            np.concatenate([part.samples_ms for part in parts]),
            np.sum([part.asked for part in parts], axis=0),
            np.sum([part.found for part in parts], axis=0),
            sum((part.errors for part in parts), Counter()),
            max(part.seconds for part in parts),
        )

    @property
    def recalls(self) -> NDArray[np.float64]:
        """Return the recall of each query, nan where it was not asked."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.found / (K * self.asked))

    @property
    def recall(self) -> RecallSummary:
        """Return the mean over the queries asked."""
        return summarise(self.recalls[self.asked > 0])

    def line(self, name: str) -> str:
        """Return a line of the table."""
        latency = Latency.of(self.samples_ms)
        times = (latency.p50_ms, latency.p95_ms, latency.p99_ms)
        shown = "".join(f"{'-' if ms is None else f'{ms:.2f}':>9}" for ms in times)
        rate, recall = len(self.samples_ms) / self.seconds, self.recall
        interval = f"{recall.mean:.3f} ({recall.low:.3f} to {recall.high:.3f})"
        return f"{name:<38}{rate:10,.0f}{shown}{self.errors.total():8}   {interval}"


HEAD = (
    f"{'clients':<38}{'searches/s':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'errors':>8}"
    f"   recall@{K} (95% interval)"
)


def drive(
    search: Search,
    truth: Truth,
    clients: int,
    seconds: float,
    work: Callable[[], object] | None = None,
) -> Load:
    """Search for `seconds`; meanwhile do `work` again and again, at least once to its end."""
    stop, start, rounds = threading.Event(), time.perf_counter(), 0
    with ThreadPoolExecutor(clients) as threads:
        try:
            running = [
                threads.submit(
                    one_client, search, truth, number * len(truth) // clients, clients, stop
                )
                for number in range(clients)
            ]
            if work is not None:
                while time.perf_counter() - start < seconds:
                    work()
                    rounds += 1
            wait(running, timeout=start + seconds - time.perf_counter())
        finally:
            stop.set()
    return replace(Load.of([one.result() for one in running]), rounds=rounds)


def one_client(
    search: Search, truth: Truth, first: int, clients: int, stop: threading.Event
) -> Load:
    """Search for one query after the other, from `first` on, until told to stop."""
    asked, found = np.zeros((2, len(truth)), np.int64)
    samples: list[float] = []
    errors: Counter[str] = Counter()
    start = time.perf_counter()
    for number in range(MOST_SEARCHES // clients):
        if stop.is_set():
            break
        query = (first + number) % len(truth)
        sent = time.perf_counter()
        try:
            hits = search(query)
        except Exception as error:
            errors[f"{type(error).__name__}: {error}"] += 1
            continue
        samples.append(1000 * (time.perf_counter() - sent))
        asked[query] += 1
        found[query] += len(truth[query].intersection(hit.chunk_index for hit in hits))
    return Load(np.array(samples), asked, found, errors, time.perf_counter() - start)


def by_vector(engine: Engine, vectors: Vectors) -> Search:
    """Return search_vector as a function of the number of the query."""
    return lambda number: search_vector(engine, vectors[number], model=MODEL, k=K)


def drive_processes(
    url: sa.URL, vectors: Vectors, truth: Truth, processes: int, threads: int, seconds: float
) -> Load:
    """Search from processes with so many threads each."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_start_together, initargs=(barrier,)) as pool:
        asked = [(url, vectors, truth, threads, seconds)] * processes
        return Load.of(pool.starmap_async(_drive_process, asked, chunksize=1).get())


def _start_together(barrier: threading.Barrier) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    global _barrier
    _barrier = barrier


_barrier: threading.Barrier


def _drive_process(
    url: sa.URL, vectors: Vectors, truth: Truth, threads: int, seconds: float
) -> Load:
    engine = engine_for(url)
    try:
        find = by_vector(engine, vectors)
        find(0)
        _barrier.wait(timeout=60)
        return drive(find, truth, threads, seconds)
    finally:
        engine.dispose()
