"""An answer to a question, from stored passages alone, with its sources."""

from resume_lab.generation.answer import Answer
from resume_lab.generation.asking import ask

__all__ = ["Answer", "ask"]
