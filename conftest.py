"""Every test, notebooks too, gets a lab folder of its own and never sees the settings of a user."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest
from nbmake.pytest_items import NotebookItem

from resume_lab.config import Settings
from resume_lab.database.session import server

hypothesis.settings.register_profile("lab", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("lab")

NOTEBOOK_ROWS = "6000"
NOTEBOOK_QUERIES = "160"


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts it behind an &
        signal.signal(signal.SIGINT, signal.default_int_handler)
    lab_dir = tempfile.mkdtemp(prefix="lab-")
    for name in Settings.model_fields:  # nothing of the user's is used, least of all a key
        os.environ.pop(name.upper(), None)
    os.environ |= {
        "LAB_DIR": lab_dir,
        "LAB_ENV_FILE": os.devnull,
        "LAB_ROWS": NOTEBOOK_ROWS,
        "LAB_QUERIES": NOTEBOOK_QUERIES,
    }
    config.add_cleanup(lambda: _remove(Path(lab_dir)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if isinstance(item, NotebookItem):
        server(Settings()).use()  # one server for all notebooks instead of one start each


def _remove(lab_dir: Path) -> None:
    os.environ["LAB_DIR"] = str(lab_dir)
    server(Settings()).leave()
    server(Settings()).stop()
    shutil.rmtree(lab_dir, ignore_errors=True)
