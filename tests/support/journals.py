"""Journals that tests open, each with a descriptor for every slot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dicom_node.storage.journal import JournalWriter


@pytest.fixture(scope="module", autouse=True)
def journals_are_closed() -> Iterator[None]:
    """Close every journal that a file's tests have opened: a thousand descriptors are all that `select` can name, and
    peers of later tests wait by it."""
    opened: list[JournalWriter] = []
    begin = JournalWriter.__init__

    def noted(self: JournalWriter, *arguments: object, **named: object) -> None:
        begin(self, *arguments, **named)  # type: ignore[arg-type]
        opened.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JournalWriter, "__init__", noted)
        yield
    for one in opened:
        one.close()
