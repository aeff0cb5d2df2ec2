"""Text files that are whole or not there."""

from __future__ import annotations

import secrets
from pathlib import Path


def replace_file(target: Path, text: str) -> None:
    """Write beside the target, then take its place in one step; raises OSError."""
    draft = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
