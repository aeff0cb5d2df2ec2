"""Every error a person can cause or meet, one base and a few children.

Each says what happened, what the database holds now, and what to type next.

LabError
  ConfigError        a setting is missing, blank or of the wrong form
  DataError          vectors or files that cannot be used
  ServiceError       a server of models refused, failed or could not be reached
  DatabaseError      the server refused, failed or lacks something
    ConnectionFailed   no connection could be made
    SchemaError        the tables are not what the code expects
    EmbeddedError      the embedded server could not start or stop
  ExperimentError    an experiment cannot be run as asked
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from resume_lab.printable import plain


class LabError(Exception):
    """What happened (`message`), what the database holds now (`state`), what to do next (`hint`).

    No state is given where the database had no part in it.
    """

    def __init__(self, message: str, *, state: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.state = state
        self.hint = hint

    def __str__(self) -> str:
        return plain("\n".join(part for part in (self.message, self.state, self.hint) if part))

    def _render_traceback_(self) -> list[str]:
        """Show one readable error in a notebook: IPython calls this instead of its traceback."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(LabError):
    """A setting is missing, blank or of the wrong form."""


class DataError(LabError):
    """Vectors or files that cannot be used."""


class ServiceError(LabError):
    """A server of models refused, failed or could not be reached."""


class DatabaseError(LabError):
    """The server refused, failed or lacks something."""


class ConnectionFailed(DatabaseError):
    """No connection could be made."""


class SchemaError(DatabaseError):
    """The tables are not what the code expects."""


class EmbeddedError(DatabaseError):
    """The embedded server could not start or stop."""


class ExperimentError(LabError):
    """An experiment cannot be run as asked."""


@contextlib.contextmanager
def leaving(state: str | Callable[[LabError], str | None]) -> Iterator[None]:
    """Add to an error from inside what the database holds now, unless it says so itself."""
    try:
        yield
    except LabError as error:
        if error.state is None:
            error.state = state if isinstance(state, str) else state(error)
        raise
