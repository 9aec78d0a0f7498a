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


def create(file: Path, data: bytes, mode: int = 0o600) -> None:
    """A new file, whole and durable or not there at all; raises FileExistsError where there is one, OSError."""
    temporary = _beside(file, data, mode)
    try:
        os.link(temporary, file)  # unlike a rename, this never replaces what is there
    finally:
        os.unlink(temporary)
    sync(file.parent)


def replace(file: Path, data: bytes, mode: int = 0o600) -> None:
    """The file with other content: at every moment, and after a kill or a power cut, it is the old one or the new one.

    One writer at a time; what a killed one left beside the file is removed. Raises OSError.
    """
    for left in file.parent.glob(f".{file.name}.*.tmp"):
        left.unlink()
    temporary = _beside(file, data, mode)
    os.rename(temporary, file)
    sync(file.parent)


def _beside(file: Path, data: bytes, mode: int) -> Path:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary
