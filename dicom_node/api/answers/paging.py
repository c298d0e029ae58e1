"""Lists by pages, all alike: `limit` says how many, and the header `Link` of an answer leads to the page behind it.

A page begins behind the last entry of the one before, so that nothing is told twice or left out when something comes in
between. What a cursor is made of is the list's own affair: follow `Link` (RFC 8288, rel="next"), do not build it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.api.answers.problem_kinds import PAGE_GONE
from dicom_node.api.answers.problems import ProblemError

Entry = TypeVar("Entry")

_BEHIND = "Begin behind this place: taken from the `Link` of the page before."
#: For lists whose entries are numbered.
NumberCursor = Annotated[int | None, Field(ge=1, le=2**62, description=_BEHIND, examples=[4711])]
#: For lists whose entries have keys.
TextCursor = Annotated[
    str | None, Field(max_length=128, pattern=r"^[A-Za-z0-9_.-]+$", description=_BEHIND, examples=["0f3a"])
]


class NumberPageQuery(BaseModel):
    """Which page of a list whose entries are numbered, the newest first."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=500)
    cursor: NumberCursor = None


class TextPageQuery(BaseModel):
    """Which page of a list whose entries have keys."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000)
    cursor: TextCursor = None


_LINK = {
    "description": 'Where the next page is: `<address>; rel="next"` (RFC 8288). Absent on the last page.',
    "schema": {"type": "string"},
    "example": '</api/v1/deliveries?limit=100&cursor=4711>; rel="next"',
}
#: For `responses` of a route that lists.
PAGED: dict[int | str, dict[str, Any]] = {200: {"headers": {"Link": _LINK}}}


class ListPages:
    """Cuts a list to its page. A dependency: it writes into the answer that goes out."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request = request
        self._response = response

    def cut(self, found: Sequence[Entry], limit: int, cursor_of: Callable[[Entry], object]) -> list[Entry]:
        """Return at most `limit` entries; `found` holds one more where there are more."""
        page = list(found[:limit])
        if len(found) > limit:
            self.lead_to(cursor_of(page[-1]))
        return page

    def cut_whole(
        self, found: Sequence[Entry], limit: int, cursor: str | None, cursor_of: Callable[[Entry], str]
    ) -> list[Entry]:
        """Return the page behind a cursor of a list that is here as a whole. Raises `ProblemError` 404: that place has
        gone meanwhile."""
        places = [cursor_of(one) for one in found]
        if cursor is not None and cursor not in places:
            raise ProblemError(
                404, "The entry that this page begins behind has gone. Begin with the first page.", kind=PAGE_GONE
            )
        begin = 0 if cursor is None else places.index(cursor) + 1
        return self.cut(found[begin : begin + limit + 1], limit, cursor_of)

    def lead_to(self, cursor: object) -> None:
        """Tell where the next page is. Relative, for what this node is called outside it cannot know."""
        url = self._request.url.include_query_params(cursor=cursor)
        self._response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
