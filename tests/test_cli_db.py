"""`resume-lab db` looks at its folder, not at an address that may be wrong."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from resume_lab.cli.app import app
from resume_lab.database.embedded import EmbeddedServer

QUICK = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture
def lab_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "lab"))
    yield tmp_path / "lab"
    for version in (16, 18):
        EmbeddedServer(tmp_path / "lab", version=version).stop()


@pytest.mark.parametrize("address", ["", "nonsense", "postgresql://localhost:99999/lab"])
def test_no_address_is_in_the_way_of_looking_and_stopping(
    address: str, lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    status = CliRunner().invoke(app, ["db", "status"])
    assert status.exit_code == 3, status.output
    assert "Note: DATABASE_URL is set" in status.stderr
    url = CliRunner().invoke(app, ["db", "url"])
    assert url.exit_code == 0, url.output
    assert quote(str(lab_dir), safe="") in url.stdout
    monkeypatch.setenv("LAB_POSTGRES", "nonsense")
    stop = CliRunner().invoke(app, ["db", "stop"])
    assert (stop.exit_code, stop.stdout) == (0, "It was not running.\n"), stop.output


def test_stop_ends_every_version(lab_dir: Path) -> None:
    servers = [EmbeddedServer(lab_dir, version=v, extra_settings=QUICK) for v in (16, 18)]
    for server in servers:
        server.start()
    stop = CliRunner().invoke(app, ["db", "stop"])
    assert (stop.exit_code, stop.stdout) == (0, "Stopped.\n"), stop.output
    assert not any(server.status().running for server in servers)
