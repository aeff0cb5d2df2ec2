"""A server that asks some roles for a password, one role for each canary."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.session import engine_for

from .canary import SECRETS

DATABASE = "canary"
Address = Callable[[str], sa.URL]


@pytest.fixture(scope="package")
def admin(server18: EmbeddedServer) -> Iterator[Engine]:
    """An engine of the server's superuser, who needs no password."""
    engine = sa.create_engine(server18.url("postgres"), isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture(scope="package")
def address(server18: EmbeddedServer, migrated_template: str, admin: Engine) -> Iterator[Address]:
    """Return the address of a database with tables, as the role of a canary, password and all."""
    access = server18.data_dir / "pg_hba.conf"
    before = access.read_text()
    access.write_text("local all +canaries scram-sha-256\n" + before)
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {DATABASE} TEMPLATE {migrated_template}"))
        connection.execute(sa.text("CREATE ROLE canaries"))
        for name, secret in SECRETS.items():
            password = secret.replace("'", "''")
            role = f"CREATE ROLE canary_{name} LOGIN SUPERUSER IN ROLE canaries PASSWORD"
            connection.exec_driver_sql(f"{role} '{password}'".replace("%", "%%"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    yield lambda name: server18.url(DATABASE).set(username=f"canary_{name}", password=SECRETS[name])
    access.write_text(before)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {DATABASE} WITH (FORCE)"))
        for role in (*(f"canary_{name}" for name in SECRETS), "canaries"):
            connection.execute(sa.text(f"DROP ROLE {role}"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


@pytest.fixture(params=list(SECRETS))
def canary(request: pytest.FixtureRequest) -> str:
    """The name of each canary in turn."""
    return str(request.param)


@pytest.fixture
def engine(address: Address, canary: str) -> Iterator[Engine]:
    """An engine that logs in with the password of the canary."""
    engine = engine_for(address(canary))
    yield engine
    engine.dispose()
