"""`resume-lab`: the notebooks' steps as commands."""

from resume_lab.cli.app import main

__all__ = ["main"]
