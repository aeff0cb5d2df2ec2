"""Runs kept in a folder: what was measured, step by step, so that one can be resumed or compared.

Each run is a folder of `.lab/runs`: `run.json` says what was asked and how it ended, `steps.jsonl`
holds each finished step on a line, `result.json` the whole result. Who works on a run holds a lock
on its folder, which dies with the process: so a killed run is told from one that goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from resume_lab.errors import DataError, ExperimentError
from resume_lab.files import new_draft, replace_file
from resume_lab.tuning.results import Exact, Latency, Point, TuningResult
from resume_lab.tuning.workload import Workload

RUNNING, INTERRUPTED, FAILED, FINISHED = "running", "interrupted", "failed", "finished"

_HEAD, _STEPS, _RESULT = "run.json", "steps.jsonl", "result.json"
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


LOOK_S = 1.0
"""Who only looks at a run holds its lock for a moment; longer is somebody who works on it."""


@dataclass(frozen=True)
class SavedRun:
    """A run as it was kept. `result` is that of TuningResult.as_dict, None before the end."""

    name: str
    status: str
    label: str
    started: str
    options: dict[str, Any]
    steps: int
    result: dict[str, Any] | None


class Run:
    """A run under way. Without a folder its steps are not kept."""

    def __init__(self, folder: Path | None = None, lock: int | None = None) -> None:
        self._folder = folder
        self._lock = lock
        self._steps: dict[str, Any] = {}
        if folder is not None:
            self._steps = _read_steps(folder / _STEPS)
            _end_line(folder / _STEPS)

    @property
    def name(self) -> str | None:
        """Return the name under which it can be resumed."""
        return self._folder.name if self._folder is not None else None

    def step(self, key: str, work: Callable[[], Any]) -> Any:
        """Return the kept outcome of a step, or do the work and keep what it returns, as JSON."""
        if key not in self._steps:
            self.keep(key, work())
        return self._steps[key]

    def kept(self, key: str) -> Any | None:
        """Return the outcome of a step if it was done before."""
        return self._steps.get(key)

    def keep(self, key: str, outcome: Any) -> None:
        """Keep the outcome of a step; it is on the disk when this returns."""
        self._steps[key] = outcome
        if self._folder is not None:
            with _explained(self._folder), (self._folder / _STEPS).open("a") as file:
                file.write(json.dumps({"step": key, "outcome": outcome}) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def check(self, fingerprint: str) -> None:
        """Refuse to mix the steps of different vectors or aims; the first call sets what it is."""
        if self.step("fingerprint", lambda: fingerprint) != fingerprint:
            raise ExperimentError(
                f"Run {self.name} was made on other vectors or with other options.",
                hint="Resume it on the same data, or start a new run without --resume.",
            )

    def finish(self, result: TuningResult) -> None:
        """Keep the result; the run is finished."""
        if self._folder is not None:
            with _explained(self._folder):
                _write(self._folder / _RESULT, result.as_dict())
            self.end(FINISHED)

    def end(self, status: str) -> None:
        """Say how the run ended."""
        try:
            self.mark(status)
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def mark(self, status: str) -> None:
        """Say where the run stands."""
        if self._folder is not None:
            head = _read(self._folder / _HEAD)
            with _explained(self._folder):
                _write(self._folder / _HEAD, head | {"status": status})


def start(folder: Path, *, label: str, options: dict[str, Any]) -> Run:
    """Begin a run in a folder of its own under `folder`."""
    now = datetime.now(UTC)
    own = folder / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    started = now.isoformat(timespec="seconds")
    head = {"label": label, "started": started, "status": RUNNING, "options": options}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = new_draft(folder)
        draft.mkdir()
        lock = _try_lock(draft)
        _write(draft / _HEAD, head)
        draft.rename(own)
    except OSError as error:
        raise DataError(
            f"Runs cannot be kept in {folder}: {error.strerror or error}.",
            hint="Set LAB_DIR to a folder that is yours.",
        ) from None
    return Run(own, lock)


def resume(folder: Path, name: str) -> Run:
    """Take up a run that did not finish."""
    check_unfinished(load(folder, name))
    deadline = time.monotonic() + LOOK_S
    while (lock := _try_lock(folder / name)) is None:
        if time.monotonic() > deadline:
            raise _going_on(name)
        time.sleep(0.02)
    run = Run(folder / name, lock)
    run.mark(RUNNING)
    return run


def check_unfinished(run: SavedRun) -> None:
    """Raise ExperimentError if there is nothing to resume, or somebody is at it."""
    if run.status == FINISHED:
        raise ExperimentError(f"Run {run.name} has finished; there is nothing to resume.")
    if run.status == RUNNING:
        raise _going_on(run.name)


def _going_on(name: str) -> ExperimentError:
    return ExperimentError(
        f"Run {name} is going on in another process.",
        hint="Wait for its end, or start a new run without --resume.",
    )


def load(folder: Path, name: str | None = None) -> SavedRun:
    """Return a run by its name, by default the newest that finished."""
    if name is None:
        finished = [run for run in saved(folder) if run.status == FINISHED]
        if not finished:
            raise ExperimentError("There is no finished run.", hint="`resume-lab tune` makes one.")
        return finished[0]
    if not _NAME.fullmatch(name) or not (folder / name / _HEAD).is_file():
        raise ExperimentError(f"There is no run {name!r}.", hint="`resume-lab runs` lists them.")
    return _saved(folder / name)


def saved(folder: Path) -> list[SavedRun]:
    """Return all runs, newest first; what cannot be read is left out."""
    if not folder.is_dir():
        return []
    names = sorted((p.name for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)
    found = []
    for name in names:
        try:
            found.append(_saved(folder / name))
        except DataError:
            continue
    return found


def fingerprint(workload: Workload, options: dict[str, Any]) -> str:
    """Return what tells one experiment from another: its queries, their answers, its options."""
    digest = hashlib.sha256()
    for array in (workload.queries, workload.truth.ids, workload.truth.distances):
        digest.update(array.tobytes())
    shown = {"rows": workload.vectors.shape, "metric": workload.metric.value, **options}
    digest.update(json.dumps(shown, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _saved(folder: Path) -> SavedRun:
    head = _read(folder / _HEAD)
    if missing := {"status", "label", "started", "options"} - set(head):
        raise DataError(f"{folder / _HEAD} lacks {', '.join(sorted(missing))}.")
    if head["status"] == RUNNING and not _is_locked(folder):
        head["status"] = INTERRUPTED  # killed: it could not say so itself
    result = _read(folder / _RESULT) if head["status"] == FINISHED else None
    steps = len(_read_steps(folder / _STEPS))
    return SavedRun(
        folder.name,
        head["status"],
        head["label"],
        head["started"],
        head["options"],
        steps,
        result,
    )


def _try_lock(folder: Path, how: int = fcntl.LOCK_EX) -> int | None:
    """Return an open descriptor that holds the lock of a run, None if another one does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass  # a file system without locks
    return descriptor


def _is_locked(folder: Path) -> bool:
    descriptor = _try_lock(folder, fcntl.LOCK_SH)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def _read_steps(path: Path) -> dict[str, Any]:
    """Return the finished steps; a line cut off by a crash was not finished."""
    steps = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            steps[entry["step"]] = entry["outcome"]
    return steps


def _end_line(path: Path) -> None:
    """End a line that a crash cut off, so that the next one stands by itself."""
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _write(path: Path, value: Any) -> None:
    replace_file(path, json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror or error}.",
            state="The steps kept before are there still.",
            hint=f"Make room there, then: resume-lab tune --resume {folder.name}",
        ) from None


def plain(record: Any) -> Any:
    """Return a record of results as JSON types, arrays as lists."""
    return json.loads(json.dumps(dataclasses.asdict(record), default=lambda array: array.tolist()))


def point_of(kept: dict[str, Any]) -> Point:
    """Return the point that `plain` made plain."""
    return Point(**kept | {"latency": _latency(kept)})


def exact_of(kept: dict[str, Any]) -> Exact:
    """Return the exact scan that `plain` made plain."""
    return Exact(**kept | {"latency": _latency(kept)})


def _latency(kept: dict[str, Any]) -> Latency:
    return Latency.of(np.array(kept["latency"]["samples_ms"]))
