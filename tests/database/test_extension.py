import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from resume_lab.database.extension import ensure_extension
from resume_lab.database.session import engine_for
from resume_lab.errors import SchemaError

INSTALLED = sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")


def test_the_extension_is_made_once_and_no_table_with_it(empty_database: Engine) -> None:
    for _ in range(2):
        ensure_extension(empty_database)
        with empty_database.connect() as connection:
            assert connection.scalar(INSTALLED) == 1
    assert sa.inspect(empty_database).get_table_names() == []


def test_a_role_that_may_not_make_it_is_told_who_can(empty_database: Engine) -> None:
    name = f"plain_{empty_database.url.database}"
    with empty_database.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN"))
    engine = engine_for(empty_database.url.set(username=name))
    try:
        with pytest.raises(SchemaError, match="may not create the extension") as caught:
            ensure_extension(engine)
        assert "superuser" in str(caught.value)
    finally:
        engine.dispose()
        with empty_database.begin() as connection:
            connection.execute(sa.text(f"DROP ROLE {name}"))
