"""What the workbench keeps below LAB_DIR is its user's alone: runs, embedded texts, locks."""

import stat
from pathlib import Path

from resume_lab.database.embedded import EmbeddedServer
from resume_lab.ingestion.journal import Journal
from resume_lab.tuning import runs


def open_to_others(path: Path) -> bool:
    """Say whether others may do more than pass through, which the server of root has to."""
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IROTH | stat.S_IWOTH))


def test_nobody_else_reads_or_locks_what_is_below_it(tmp_path: Path) -> None:
    lab_dir = tmp_path / "lab"
    server = EmbeddedServer(lab_dir)
    server.use()
    server.leave()
    runs.start(lab_dir / "runs", label="x", options={})
    Journal(lab_dir / "embedded", "a model")
    places = [lab_dir, *lab_dir.iterdir()]
    assert len(places) == 6
    assert [path for path in places if open_to_others(path)] == []
