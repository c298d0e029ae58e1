"""Lists that go out as they come: what was sent is not kept. And days, as addresses name them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import StreamingResponse

#: Lines of a list go out together, so many at a time.
_LINES_AT_ONCE = 100


def _written_as_a_day(text: object) -> object:
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("a day as 2026-01-31")  # a number would be taken for seconds since 1970
    return text


_Day = Annotated[date, BeforeValidator(_written_as_a_day)]


class DaysQuery(BaseModel):
    """From which day to which, both included; nothing: all days."""

    model_config = ConfigDict(extra="forbid")

    first: _Day | None = Field(None, alias="from", description="Made on this day or later, UTC.")
    last: _Day | None = Field(None, alias="to", description="Made on this day or earlier, UTC.")

    @property
    def since(self) -> datetime | None:
        """The beginning of the first day."""
        return None if self.first is None else datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime | None:
        """The end of the last day; of the last that there is, none."""
        if self.last is None or self.last == date.max:
            return None
        return datetime.combine(self.last + timedelta(days=1), time(), UTC)


def streamed(lines: Iterable[str], media_type: str, name: str) -> StreamingResponse:
    """Return an answer that is to be kept as a file of this name."""
    return StreamingResponse(_together(lines), media_type=media_type, headers=as_file(name))


def json_list(name: str, entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield an object of one list, entry by entry."""
    yield f'{{"{name}":['
    for number, entry in enumerate(entries):
        yield ("," if number else "") + json.dumps(entry, ensure_ascii=False)
    yield "]}"


def as_file(name: str) -> dict[str, str]:
    """Return the header by which a browser keeps an answer and does not show it."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _together(lines: Iterable[str]) -> Iterator[bytes]:
    """Yield many lines at a time: each piece costs a change of threads."""
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) == _LINES_AT_ONCE:
            yield "".join(waiting).encode()
            waiting.clear()
    yield "".join(waiting).encode()
