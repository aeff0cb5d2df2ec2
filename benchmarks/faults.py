"""Kills commands at random moments and looks for what is lost.

Every operation meets every fault, as a process of its own on an embedded server with the settings
of users. After each the committed rows are counted, the same command is run again, and all is
compared with what it leaves when nothing goes wrong. A fault that came too late, when the command
had ended, is caused once more, earlier. Two operations go on at a time, each with its own server.
"""

from __future__ import annotations

import argparse
import itertools
import queue
import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack

from resume_lab.tuning.environment import machine
from tests.faults.harness import OPERATIONS, Fault, Seen, cause
from tests.faults.lab import Lab, new_lab
from tests.faults.operations import Operation

AT_A_TIME = 2
SOONER = (1.0, 0.6, 0.3, 0.1, 0.0)
"""What becomes of the moment while the fault comes too late."""

MINUTES = 10.0


def faults_in(
    lab: Lab, operation: Operation, rng: random.Random, rounds: int, stop: threading.Event
) -> Iterator[Seen]:
    """Cause each fault so many times, in random order, until told to stop."""
    every = list(Fault) * rounds
    rng.shuffle(every)
    for fault in every:
        moment = rng.random()
        for sooner in SOONER:
            if stop.is_set():
                return
            seen = cause(lab, fault, operation, sooner * moment, rng=rng)
            for what in (*seen.problems, *seen.rerun, *seen.leftovers):
                print(f"! {operation.name}, {fault}: {what}", flush=True)
            yield seen
            if seen.caused:
                break


def all_faults(labs: Sequence[Lab], seed: int, rounds: int, minutes: float) -> list[Seen]:
    """Cause the faults of every operation, on whichever lab is free; begin none after `minutes`."""
    free: queue.SimpleQueue[Lab] = queue.SimpleQueue()
    for lab in labs:
        free.put(lab)
    stop = threading.Event()

    def work(operation: Operation) -> list[Seen]:
        lab = free.get()
        rng = random.Random(f"{seed} {operation.name}")  # noqa: S311 - no secret
        found = list(faults_in(lab, operation, rng, rounds, stop))
        free.put(lab)
        return found

    timer = threading.Timer(60 * minutes, stop.set)
    with ThreadPoolExecutor(len(labs)) as pool:
        try:
            timer.start()
            jobs = [pool.submit(work, operation) for operation in OPERATIONS]
            return [seen for job in as_completed(jobs) for seen in job.result()]
        finally:  # Ctrl-C, too
            timer.cancel()
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for lab in labs:
                lab.end_processes()


def print_table(found: Sequence[Seen]) -> None:
    """Print a line for each operation and fault."""
    print(
        f"{'operation':<20}{'fault':<24}{'caused':>7}{'rows lost':>11}"
        f"{'reruns failed':>15}{'leftovers':>11}"
    )
    for operation, fault in itertools.product(OPERATIONS, Fault):
        of = [s for s in found if (s.operation, s.fault) == (operation.name, fault)]
        if of:
            print(
                f"{operation.name:<20}{fault:<24}{sum(s.caused for s in of):7}"
                f"{sum(s.rows_lost for s in of):11,}{sum(bool(s.rerun) for s in of):15}"
                f"{sum(len(s.problems) + len(s.leftovers) for s in of):11}"
            )


def main() -> None:
    """Print the table and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="times that each fault is caused")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin no fault after these")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"Faults at random moments, seed {options.seed}, {machine()}", flush=True)
    start = time.monotonic()
    with ExitStack() as stack:
        labs = [stack.enter_context(new_lab()) for _ in range(AT_A_TIME)]
        found = all_faults(labs, options.seed, options.rounds, options.minutes)
    orphans = sum(lab.server.status().running for lab in labs)
    rows_lost, failed = sum(s.rows_lost for s in found), sum(bool(s.rerun) for s in found)
    unclean = sum(not seen.is_clean for seen in found)
    print_table(found)
    print(
        f"{sum(seen.caused for seen in found)} faults caused, {rows_lost} rows lost, "
        f"{failed} reruns failed, {unclean} left a trace, {orphans} orphan servers, "
        f"{(time.monotonic() - start) / 60:.1f} min"
    )
    assert rows_lost == failed == unclean == orphans == 0


if __name__ == "__main__":
    main()
