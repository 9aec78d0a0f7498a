"""Reads the vectors that lie beside it; README.md says what each is and where it comes from."""

import json
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent


def vector(name: str) -> Any:
    """The content of one vector file, bytes in it as lowercase hex."""
    return json.loads((FOLDER / f"{name}.json").read_text())
