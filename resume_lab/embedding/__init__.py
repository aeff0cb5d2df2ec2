"""Text in, unit vectors of 1536 dimensions out."""

from resume_lab.embedding.embedder import LEXICAL, Embedder, embed, make_embedder, stored_model

__all__ = ["LEXICAL", "Embedder", "embed", "make_embedder", "stored_model"]
