"""Expected text in full. `UPDATE_GOLDEN=1 pytest ...` writes the files anew; read the diff before it is committed."""

import os
from pathlib import Path


def assert_golden(file: Path, text: str) -> None:
    """The text is what the file says."""
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text(), f"{file.name} differs: if that is meant, run again with UPDATE_GOLDEN=1"
