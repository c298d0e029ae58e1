"""`[ensemble]` of a card: further weights of one network, and mirror images, whose answers are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.inference.cards.digest import sha256_of
from dicom_node.inference.cards.fields import CardFields

#: Spatial axes of what a network is given: two of an image, three of a volume.
_AXES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class CardEnsemble:
    """`members` are asked besides the network of `[weights]`, all of them also about the image mirrored along each of
    `mirrored_axes`, spatial axes of what the preprocessing gives (MONAI's `spatial_axis`)."""

    members: tuple[tuple[Path, str], ...] = ()
    mirrored_axes: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.members or self.mirrored_axes)

    def problems(self) -> Iterator[str]:
        """Tell which weights of the members are missing or others than the card names."""
        for file, sha256 in self.members:
            if not file.is_file():
                yield f"weights {file} are missing. Restore the file."
            elif not sha256 or (found := sha256_of(file)) != sha256:
                told = f"have sha256 {found[:12]}…, the card says {sha256[:12]}…" if sha256 else "have no sha256 there"
                yield f"weights {file} {told}. Restore the file, or correct [[ensemble.member]] after review."


NO_ENSEMBLE = CardEnsemble()


def read_ensemble(folder: Path, fields: CardFields) -> CardEnsemble:
    """Read the table. Raises `SettingsError` naming file and key."""
    axes = fields.floats("mirrored_axes")
    if len(set(axes)) < len(axes) or any(one not in _AXES for one in axes):
        fields.refuse("mirrored_axes", "must hold 0, 1 or 2, each once")
    found = CardEnsemble(
        tuple((folder / one.inside(one.text("file")), one.digest("sha256")) for one in fields.subtables("member")),
        tuple(int(one) for one in axes),
    )
    if fields.present and not found:
        fields.refuse("member", "or mirrored_axes must say what is averaged")
    return found
