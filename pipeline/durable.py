"""Making a name or a content survive a power cut; what every writer of files ends with."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a folder's names, or a file's content, are on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
