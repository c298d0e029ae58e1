"""Which version of a thing somebody saw before they changed it (RFC 9110 13.1, RFC 6585 3).

`version` of a route or destination, as the lists tell it, in `If-Match`: where a person has changed it since, nothing
is done and the answer is 412.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header
from pydantic import WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from dicom_node.api.answers.problems import ProblemError
from dicom_node.index.decided.versions_looked_at import ABSENT, ANY

_TAG = re.compile(r'"([!#-~]{1,100})"')
#: For the description, in which no header is null: what these do not match is refused here, with a sentence that helps.
_VERSION_OR_ANY = {"pattern": rf"^(\*|{_TAG.pattern})$"}
_ANY = {"pattern": r"^\*$"}
_HOW = 'Send `If-Match: "VERSION"` with the `version` that the list tells'

IfMatch = Annotated[
    Annotated[str, WithJsonSchema({"type": "string", **_VERSION_OR_ANY})] | SkipJsonSchema[None],
    Header(alias="If-Match", description="The `version` that was looked at, in quotes; `*`: any."),
]
IfNoneMatch = Annotated[
    Annotated[str, WithJsonSchema({"type": "string", **_ANY})] | SkipJsonSchema[None],
    Header(alias="If-None-Match", description="`*`: only where there is none of this name."),
]


def looked_at(if_match: IfMatch = None) -> str | None:
    """Return the version that somebody saw; `None` where they do not say."""
    if if_match is None or if_match.strip() == ANY:
        return if_match and ANY
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        raise ProblemError(422, f"If-Match holds no version: it is one text in quotes, or *. {_HOW}.")
    return found[1]


def must_be_looked_at(if_match: IfMatch = None) -> str:
    """Return the version that somebody saw. Raises `ProblemError` (428) where they do not say."""
    found = looked_at(if_match)
    if found is None:
        raise ProblemError(428, f"Which version was looked at is not said. {_HOW}.")
    return found


def must_be_looked_at_or_absent(if_match: IfMatch = None, if_none_match: IfNoneMatch = None) -> str:
    """Return the version that somebody saw, or that they saw none (`If-None-Match: *`)."""
    if if_none_match is not None and if_none_match.strip() != ANY:
        raise ProblemError(422, "If-None-Match takes only *: write a route where there is none of its name.")
    if if_match is None and if_none_match is not None:
        return ABSENT
    if if_match is None:
        raise ProblemError(
            428, f"Which version was looked at is not said. {_HOW}, or `If-None-Match: *` to add a route."
        )
    return must_be_looked_at(if_match)


LookedAt = Annotated[str | None, Depends(looked_at)]
MustBeLookedAt = Annotated[str, Depends(must_be_looked_at)]
MustBeLookedAtOrAbsent = Annotated[str, Depends(must_be_looked_at_or_absent)]
