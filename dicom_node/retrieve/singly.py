"""Objects fetched one by one: one that the PACS cannot send must not keep the others away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from dicom_node.errors import NotFound, RefusedObject, SourceFault, SourceUnavailable
from dicom_node.retrieve.tally import Tally

#: Objects in a row at which the PACS may break off or fall silent before it is taken for gone.
_MOST_BREAKS = 3

T = TypeVar("T")


def fetch_singly(objects: Iterable[T], name_of: Callable[[T], str], fetch: Callable[[T], None], tally: Tally) -> None:
    """Fetch each object; one that fails is counted with its reason under its name, and the next is tried.

    A PACS that answers with an error is asked for all the others; one that does not answer is given up. Raises
    `SourceUnavailable` then, and whatever else `fetch` raises.
    """
    breaks = 0
    for one in objects:
        try:
            fetch(one)
            breaks = 0
        except (NotFound, RefusedObject, SourceFault) as error:
            tally.refuse(name_of(one), str(error))
            breaks = 0
        except SourceUnavailable as error:
            tally.refuse(name_of(one), str(error))
            breaks += 1
            if breaks == _MOST_BREAKS:
                raise
