"""pytest-alembic's built-in tests, on PostgreSQL 18 and 16."""

import pytest
from alembic.config import Config
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy.engine import Engine

from resume_lab.config import project_root

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_config() -> Config:
    return Config(project_root() / "alembic.ini")


@pytest.fixture
def alembic_engine(any_empty_database: Engine) -> Engine:
    return any_empty_database
