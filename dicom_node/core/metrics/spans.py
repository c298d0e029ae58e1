"""What was done for a study, from when to when: told to whoever traces, kept by nobody else.

All that is done for one study is one trace. Its id, and those of the spans that others belong to, follow from what
every process knows, so that nothing need be handed along.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dicom_node.core.calls.requests import requests_in_work


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step: of which study, its name, from when to when (seconds since 1970), and the key of what it is part of.

    Attributes are names of the settings, codes, numbers and request ids, as in the log; never a patient's.
    """

    study_instance_uid: str
    name: str
    began_s: float
    ended_s: float
    parent: str = ""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    requests: tuple[str, ...] = field(default_factory=requests_in_work)
    is_failure: bool = False


@dataclass(slots=True)
class Spans:
    """Who hears of what was done: nobody, until somebody listens. A listener never blocks and never raises."""

    _listener: Callable[[Span], None] | None = None

    @property
    def are_heard(self) -> bool:
        """Tell whether it is worth to look up what a span would say."""
        return self._listener is not None

    def listen(self, listener: Callable[[Span], None] | None) -> None:
        """Let this one hear from now on, instead of whoever did."""
        self._listener = listener

    def tell(self, span: Span) -> None:
        """Tell of a step that is over."""
        listener = self._listener
        if listener is not None:
            listener(span)

    @contextmanager
    def step(
        self, study_instance_uid: str, name: str, parent: str, **attributes: str | float
    ) -> Iterator[dict[str, str | float]]:
        """Tell of the block when it is over; what is put into the given dict is told with it."""
        began_s, found = time.time(), dict(attributes)
        is_failure = True
        try:
            yield found
            is_failure = False
        finally:
            if self.are_heard:
                self.tell(Span(study_instance_uid=study_instance_uid, name=name, began_s=began_s, ended_s=time.time(),
                               parent=parent, attributes=found, is_failure=is_failure))  # fmt: skip


#: Those of this process.
SPANS = Spans()


def study_key(revision: int) -> str:
    """Return the key of the span that holds all that is done for a revision of a study."""
    return f"study:{revision}"


def job_key_of(job_key: str) -> str:
    """Return the key of the span of the analysis that made a result."""
    return f"job:{job_key}"
