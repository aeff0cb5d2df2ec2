"""Causes a fault while a command runs, and looks at what it leaves.

The command is a process of its own on a server of its own. Afterwards the rows are counted, the
same command is run again, and all is compared with what it does when nothing goes wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from resume_lab.database.server_programs import run_program
from resume_lab.tuning import runs

from .lab import Lab, Undisturbed, ended
from .operations import OPERATIONS, ROLLOUT, TUNE, Operation
from .proxy import SOCKET, Proxy
from .state import (
    Holdings,
    counted,
    left_in,
    left_in_database,
    left_of_runs,
    parts,
    rows_lost,
)

__all__ = ["OPERATIONS", "Fault", "Seen", "cause"]


class Fault(StrEnum):
    """What happens to a command, or to the server under it."""

    KILL = "process killed"
    INTERRUPT = "interrupted"
    END = "session ended"
    CRASH = "backend killed"
    SERVER = "server killed"
    STOP = "server stopped at once"
    CUT = "connection cut"


_ENDS = dict.fromkeys(Fault, (0, 1)) | {
    Fault.KILL: (0, -signal.SIGKILL),
    Fault.INTERRUPT: (0, 130, -signal.SIGINT),  # the last when Python is on its way out
}
"""How a command may end; 0 where it does not need what it lost, or was done."""


_WRITTEN = "`resume-lab migrate`"
"""What a second rollout says to do where the first was interrupted after it had written."""


@dataclass(frozen=True)
class Seen:
    """What came of a fault, which was `caused` if the command was under way.

    `problems` is what was wrong right after it; `rerun` how the same command failed afterwards, or
    what it left other than an undisturbed one; `leftovers` what still lay about then.
    """

    operation: str
    fault: Fault
    caused: bool
    rows_before: int
    rows_after: int
    rows_lost: int
    problems: tuple[str, ...]
    rerun: tuple[str, ...]
    leftovers: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Say whether all is as if there had been no fault."""
        return not (self.rows_lost or self.problems or self.rerun or self.leftovers)


def cause(
    lab: Lab,
    fault: Fault,
    operation: Operation,
    moment: float | str,
    *,
    rng: random.Random | None = None,
    in_the_way: str | None = None,
) -> Seen:
    """Cause a fault at a moment of an operation; run it again; return what was seen.

    `moment` is a share of the time that the operation takes, or what its statement says then. The
    statement `in_the_way`, such as LOCK TABLE, is run before in a transaction that stays open until
    the fault, so that the operation comes to its moment and no further.
    """
    wanted = lab.undisturbed(operation, timed=isinstance(moment, float))
    lab.prepare(operation)
    with _way(lab, fault) as proxy:
        through = proxy and proxy.folder
        with lab.cursor() as cursor, _blocked(lab, in_the_way):
            process = lab.start(operation.arguments, through=through)
            at = moment if isinstance(moment, str) else ""
            found = lab.wait_for_session(cursor, process, at)
            if isinstance(moment, float):
                is_own = fault in (Fault.KILL, Fault.INTERRUPT)
                time.sleep(moment * (wanted.span_s if is_own else wanted.sessions_s))
            seen = counted(cursor)
            victims = [pid for pid in lab.sessions(cursor) if not at or pid in found]
            is_running = bool(found) and process.poll() is None
            caused = is_running and _strike(lab, fault, process, proxy, victims, rng)
        said = ended(process)
        lab.server.use()  # whoever comes next starts it
        after = lab.holdings()
        problems = [*_wrong(lab, operation, wanted, after), *_ill_said(fault, process, said)]
        again = _run_again(lab, operation, through)
    final = lab.holdings()
    if final != wanted.after:
        again.append(_difference(final, wanted.after))
    lost = [
        rows_lost(wanted.before.rows, wanted.after.rows, seen, at.rows) for at in (after, final)
    ]
    return Seen(
        operation.name, fault, caused, sum(seen.values()), after.count, sum(lost),
        tuple(problems), tuple(again), tuple(_leftovers(lab)),
    )  # fmt: skip


# --- the fault


@contextlib.contextmanager
def _way(lab: Lab, fault: Fault) -> Iterator[Proxy | None]:
    """Give a way to the server that can be cut, for the fault that needs one."""
    if fault is not Fault.CUT:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="way-") as folder:
        target = Path(str(lab.server.url().query["host"]), SOCKET)
        proxy = Proxy(Path(folder), target)
        try:
            yield proxy
        finally:
            proxy.close()


@contextlib.contextmanager
def _blocked(lab: Lab, statement: str | None) -> Iterator[None]:
    if statement is None:
        yield
        return
    with lab.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement)
        yield  # closing the connection ends it


def _strike(
    lab: Lab,
    fault: Fault,
    process: subprocess.Popen[str],
    proxy: Proxy | None,
    victims: list[int],
    rng: random.Random | None,
) -> bool:
    """Cause the fault; say whether there was something to hit."""
    if proxy is not None:
        return proxy.cut()
    if fault in (Fault.KILL, Fault.INTERRUPT):
        process.send_signal(signal.SIGKILL if fault is Fault.KILL else signal.SIGINT)
        return True
    if fault is Fault.STOP:
        run_program(
            lab.server.version, "pg_ctl", "stop", "-D", str(lab.server.data_dir), "-m", "immediate"
        )
        return True
    if fault is Fault.SERVER:
        return _killed(lab.server.status().pid)
    if not victims:
        return False
    victim = rng.choice(victims) if rng is not None else victims[0]
    if fault is Fault.CRASH:
        return _killed(victim)
    with lab.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [victim])
        return bool(cursor.fetchone()[0])


def _killed(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


# --- what it leaves


def _wrong(lab: Lab, operation: Operation, wanted: Undisturbed, after: Holdings) -> Iterator[str]:
    """Name what is neither as it was before the operation nor as after one of its commits."""
    yield from parts(wanted.before.rows, wanted.after.rows, after.rows)
    if operation.waits:
        if not after.has_vector_index:
            yield "no vector index stands"
    elif after.schema not in wanted.stages:
        yield "half a schema"
    yield from left_in(lab.project / "migrations" / "versions")


def _ill_said(fault: Fault, process: subprocess.Popen[str], said: str) -> Iterator[str]:
    if "Traceback" in said or "It did not end" in said:
        yield said[-2000:]
    elif process.returncode not in _ENDS[fault]:
        yield f"exit code {process.returncode}: {said[-500:]}"


def _run_again(lab: Lab, operation: Operation, through: Path | None) -> list[str]:
    """Type the same command, or what `resume-lab runs` offers; return what went wrong."""
    arguments = operation.arguments
    if operation is TUNE:
        unfinished = [r.name for r in runs.saved(lab.lab_dir / "runs") if r.status != runs.FINISHED]
        if unfinished:
            arguments = ("tune", "--resume", unfinished[0], *arguments[-2:])
    process = lab.start(arguments, through=through)
    said = ended(process)
    if process.returncode == 0 or (operation is ROLLOUT and _WRITTEN in said):
        return []
    return [f"{' '.join(arguments)}: {said[-2000:]}"]


def _difference(found: Holdings, wanted: Holdings) -> str:
    rows = {name for name in found.rows.keys() | wanted.rows.keys()
            if found.rows.get(name) != wanted.rows.get(name)}  # fmt: skip
    return f"another end: {sorted(rows)} {sorted(map(str, found.schema ^ wanted.schema))}"


def _leftovers(lab: Lab) -> list[str]:
    with lab.cursor() as cursor:
        left = left_in_database(cursor)
    folders = [lab.project, lab.lab_dir / "runs", lab.lab_dir / "embedded"]
    files = [path for path in lab.folder.iterdir() if path.is_file()]
    return [*left, *left_in(*folders, *files), *left_of_runs(lab.lab_dir / "runs")]
