"""A pgvector that is not there, or too old, is told by name with what to type."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from debian_server import PackagedServer, packaged_server
from sqlalchemy.engine import Engine

from resume_lab.database import schema, verify
from resume_lab.database.extension import ensure_extension
from resume_lab.database.indexes import execute
from resume_lab.database.session import engine_for
from resume_lab.errors import SchemaError

SINCE_0_8 = [
    f"{kind} array_to_sparsevec({source}[], integer, boolean)"
    for kind in ("FUNCTION",)
    for source in ("integer", "real", "double precision", "numeric")
]
CASTS = [
    f"CAST ({source}[] AS sparsevec)"
    for source in ("integer", "real", "double precision", "numeric")
]


def make_old(engine: Engine) -> None:
    """Take from the extension what its update to 0.8.0 adds: it is 0.7.4 then."""
    with engine.begin() as connection:
        for thing in (*CASTS, *SINCE_0_8):
            connection.execute(sa.text(f"ALTER EXTENSION vector DROP {thing}"))
            connection.execute(sa.text(f"DROP {thing}"))
        connection.execute(
            sa.text("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
        )


def test_an_extension_older_than_the_server_carries_is_told_how_to_update(
    database: Engine,
) -> None:
    make_old(database)
    with pytest.raises(SchemaError, match=r"pgvector 0\.7\.4 is older than 0\.8"):
        schema.upgrade(database)
    with pytest.raises(SchemaError, match=r"pgvector 0\.7\.4 is older than 0\.8") as raised:
        ensure_extension(database)
    (wrong,) = [check for check in verify(database).checks if not check.passed]
    assert (wrong.name, wrong.detail, wrong.hint) == (
        "extension",
        raised.value.message,
        raised.value.hint,
    )
    assert wrong.hint.startswith("The server carries 0.8.")
    with database.begin() as connection:
        connection.execute(sa.text(wrong.hint.partition(": ")[2]))
    assert verify(database).passed
    ensure_extension(database)
    schema.upgrade(database)


def test_a_setting_that_the_extension_does_not_know_is_told_as_its_age(database: Engine) -> None:
    with database.connect() as connection:
        connection.execute(sa.text("SELECT '[1]'::vector"))  # loads the library
        with pytest.raises(SchemaError, match=r"pgvector is older than 0\.8: .*ivfflat\.newest"):
            execute(connection, "SET ivfflat.newest = on")


@pytest.fixture(scope="module")
def packaged() -> Iterator[PackagedServer]:
    """Another major version, as a distribution packages it, without pgvector."""
    with packaged_server() as server:
        yield server


@pytest.fixture
def without_pgvector(packaged: PackagedServer) -> Iterator[Engine]:
    engine = engine_for(packaged.url())
    with engine.connect() as connection:
        if connection.scalar(
            sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
        ):
            pytest.skip("this server has pgvector")
    yield engine
    engine.dispose()


def test_a_server_without_it_is_told_what_to_install(without_pgvector: Engine) -> None:
    for work in (ensure_extension, schema.upgrade):
        with pytest.raises(SchemaError, match="pgvector is not installed on this server") as raised:
            work(without_pgvector)
        assert "postgresql-<major>-pgvector" in raised.value.hint
    assert schema.current(without_pgvector) is None
    wrong = {check.name: check for check in verify(without_pgvector).checks if not check.passed}
    assert list(wrong) == ["extension"]
    assert wrong["extension"].detail == "pgvector is not installed on this server."
    assert "postgresql-<major>-pgvector" in wrong["extension"].hint
