"""`resume-lab`: the notebooks' steps as commands."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; an interrupt while it is still loading ends it without a traceback."""
    for stream in (sys.stdout, sys.stderr):  # text may hold what the terminal cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        from resume_lab.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
