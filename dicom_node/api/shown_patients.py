"""Who the patients on a page are: read from stored objects when somebody may see it, and forgotten soon after."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from dicom_node.headers.demographics import Demographics

#: How long a page that looks again finds what was read, and of how many objects.
_KEPT_S = 60.0
_MOST = 500


class ShownPatients:
    """Reads whose stored objects are, and remembers it for a minute in memory. Thread-safe."""

    def __init__(
        self,
        path_of: Callable[[str], Path],
        read: Callable[[Sequence[Path]], list[Demographics | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path_of` finds the file of an object key; `read` never raises and gives `None` for what nobody can read."""
        self._path_of = path_of
        self._read = read
        self._clock = clock
        self._gate = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Demographics | None]] = OrderedDict()

    def of(self, object_keys: Collection[str]) -> Mapping[str, Demographics | None]:
        """Return whose objects these are, by object key."""
        found = self._remembered(object_keys)
        lacking = [key for key in dict.fromkeys(object_keys) if key and key not in found]
        fresh = dict(zip(lacking, self._read([self._path_of(key) for key in lacking]), strict=True))
        self._remember(fresh)
        return found | fresh

    def _remembered(self, object_keys: Collection[str]) -> dict[str, Demographics | None]:
        with self._gate:
            now = self._clock()
            while self._kept and next(iter(self._kept.values()))[0] < now:
                self._kept.popitem(last=False)
            return {key: self._kept[key][1] for key in object_keys if key in self._kept}

    def _remember(self, fresh: Mapping[str, Demographics | None]) -> None:
        with self._gate:
            until = self._clock() + _KEPT_S
            self._kept.update({key: (until, said) for key, said in fresh.items()})
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
