"""Few exports run at once, and fewer of one person: each reads the disk and computes for as long as it lasts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import cast

from fastapi import Depends, Request

from dicom_node.api.access import CurrentPrincipal
from dicom_node.api.answers.problem_kinds import BUSY
from dicom_node.api.answers.problems import ProblemError

_TRY_AGAIN_S = 10


class ExportPlaces:
    """Who exports at this moment. Safe to share between threads."""

    IN_ALL, OF_ONE_PERSON = 6, 2

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, person: str) -> None:
        """Take a place. Raises `ProblemError` 503 when all are taken, or all of this person."""
        with self._lock:
            if self._taken[person] >= self.OF_ONE_PERSON:
                raise _busy(f"{self.OF_ONE_PERSON} exports of yours run already. Let one of them end.")
            if self._taken.total() >= self.IN_ALL:
                raise _busy("Other exports take all places. Try again when one of them has ended.")
            self._taken[person] += 1

    def give_back(self, person: str) -> None:
        """Free a place that was taken."""
        with self._lock:
            self._taken[person] -= 1
            if not self._taken[person]:
                del self._taken[person]


def _busy(detail: str) -> ProblemError:
    return ProblemError(503, detail, {"Retry-After": str(_TRY_AGAIN_S)}, kind=BUSY)


def _export_place(request: Request, principal: CurrentPrincipal) -> Iterator[None]:
    """Hold a place until the answer is wholly sent, or its reader has gone."""
    places = cast(ExportPlaces, request.app.state.export_places)
    places.take(principal.identity)
    try:
        yield
    finally:
        places.give_back(principal.identity)


#: For `dependencies` of a route, behind its permission and its act.
OneOfFewExports = Depends(_export_place)
