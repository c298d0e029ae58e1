"""What every section of the settings is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: PS3.5 6.2, VR AE: 1 to 16 printable ASCII characters, no backslash, no space at the ends.
_AE_TITLE = r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$"
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=_AE_TITLE)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration; an unknown key is an error, because a typing mistake must not pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)
