"""Two embedded servers, 18 and 16, and a database of its own for each test that asks."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database import schema
from resume_lab.database.embedded import EmbeddedServer
from resume_lab.database.session import engine_for

QUICK = {"fsync": "off", "shared_buffers": "128MB", "max_wal_size": "1GB"}
"""These servers are thrown away, so nothing need survive a crash of the machine."""

TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[int], EmbeddedServer]]:
    """Start servers outside pytest's folder, which another run at the same time closes to them."""
    started: dict[int, EmbeddedServer] = {}
    folders: list[Path] = []

    def get(version: int) -> EmbeddedServer:
        if version not in started:
            folders.append(Path(tempfile.mkdtemp(prefix=f"lab{version}-")))
            started[version] = EmbeddedServer(folders[-1], version=version, extra_settings=QUICK)
            started[version].use()
        return started[version]

    yield get
    for server in started.values():
        server.leave()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=[18, 16], ids=["pg18", "pg16"])
def any_server(
    request: pytest.FixtureRequest, servers: Callable[[int], EmbeddedServer]
) -> EmbeddedServer:
    return servers(request.param)


@pytest.fixture(scope="session")
def server18(servers: Callable[[int], EmbeddedServer]) -> EmbeddedServer:
    return servers(18)


def _admin(server: EmbeddedServer, statement: str) -> None:
    engine = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def _database(server: EmbeddedServer, template: str) -> Iterator[Engine]:
    name = f"test_{uuid4().hex[:12]}"
    _admin(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    engine = engine_for(server.url(name))
    yield engine
    engine.dispose()
    _admin(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def migrated_template(server18: EmbeddedServer) -> str:
    _admin(server18, f"CREATE DATABASE {TEMPLATE}")
    engine = engine_for(server18.url(TEMPLATE))
    schema.upgrade(engine)
    engine.dispose()
    return TEMPLATE


@pytest.fixture
def empty_database(server18: EmbeddedServer) -> Iterator[Engine]:
    """An engine on a new database of PostgreSQL 18 without any table."""
    yield from _database(server18, "template1")


@pytest.fixture
def any_empty_database(any_server: EmbeddedServer) -> Iterator[Engine]:
    """The same on 18 and on 16."""
    yield from _database(any_server, "template1")


@pytest.fixture
def database(server18: EmbeddedServer, migrated_template: str) -> Iterator[Engine]:
    """An engine on a new database of PostgreSQL 18 with the three tables, empty."""
    yield from _database(server18, migrated_template)
