"""Notes beside files in the cache: their hashes and where they come from."""

import json
from pathlib import Path
from typing import Any

from keras_course import files


def read_note(note: Path) -> dict[str, Any]:
    """Returns what a note says; nothing if it is missing or damaged."""
    try:
        facts = json.loads(note.read_bytes()) if note.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def write_note(note: Path, facts: dict[str, Any]) -> None:
    """Writes a note, complete or not at all."""
    with files.replacing(note) as file:
        file.write((json.dumps(facts, indent=2) + "\n").encode())
