"""Files that the settings name, before they are opened: what is no file may keep its reader for ever."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def require_regular(*paths: Path | str | None) -> None:
    """Raise `OSError` for what is there and no regular file: a named pipe, a terminal or a folder. `None`, "" and what
    is not there are passed over; whoever opens that hears of it at once."""
    for path in paths:
        try:
            mode = Path(path).stat().st_mode if path else 0
        except (FileNotFoundError, NotADirectoryError):
            continue
        if mode and not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
