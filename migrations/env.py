"""Run migrations: on the database of the settings, on one handed over, or as SQL without any."""

from logging.config import fileConfig

from alembic import command, context
from alembic.util import CommandError
from sqlalchemy.engine import Connection, Engine

from resume_lab.config import DRIVER, AppEnv, Settings
from resume_lab.database import models
from resume_lab.database.failures import translated_errors
from resume_lab.database.indexes import raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.pgvector_version import check_version
from resume_lab.database.schema import (
    include_object,
    include_object_on,
    migration_lock,
    standing,
)
from resume_lab.database.session import open_engine
from resume_lab.errors import LabError, leaving

config = context.config
called_from_terminal = config.cmd_opts is not None

if called_from_terminal and config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)


def check_downgrade() -> None:
    """Refuse to go back in prod unless the command line says `-x yes=true`."""
    action = getattr(config.cmd_opts, "cmd", (None,))[0]
    said = context.get_x_argument(as_dictionary=True).get("yes")
    if action is command.downgrade and said != "true" and Settings().app_env is AppEnv.PROD:
        raise CommandError(
            "APP_ENV is prod, and going back drops tables with their rows.\n"
            "If that is meant: alembic -x yes=true downgrade ..."
        )


def run_offline() -> None:
    """Write the migrations as SQL; no database is needed."""
    context.configure(
        url=f"{DRIVER}://",
        target_metadata=models.DocumentChunk.metadata,
        literal_binds=True,
        transaction_per_migration=True,
        include_object=include_object,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_on(connection: Connection) -> None:
    """Run the migrations through an open connection."""
    context.configure(
        connection=connection,
        target_metadata=models.DocumentChunk.metadata,
        transaction_per_migration=True,
        include_object=include_object_on(connection),
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run the migrations, one process at a time."""
    given = config.attributes.get("connection")
    if isinstance(given, Connection):
        with translated_errors():
            run_on(given)
        return
    engine = given if isinstance(given, Engine) else open_engine()
    with (
        leaving(lambda error: standing(engine, error)),
        translated_errors(engine),
        migration_lock(engine),
        engine.connect() as connection,
    ):
        check_version(connection)
        connection.rollback()  # or Alembic would take the transaction for its own
        try:
            # a concurrent build takes minutes, and psycopg2 alone would not notice Ctrl-C
            interruptible(raw_connection(connection), lambda: run_on(connection))
        finally:
            connection.invalidate()  # a migration that fails leaves its settings


if context.is_offline_mode():
    run_offline()
else:
    try:
        check_downgrade()
        run_online()
    except LabError as error:
        if not called_from_terminal:
            raise
        raise CommandError(str(error)) from None
