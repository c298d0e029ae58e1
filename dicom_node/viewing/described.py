"""What goes to the processes that read stored objects for viewers, and what comes back. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
#: Pixels that are not compressed lie in the file as they lie in Explicit VR Little Endian.
PLAIN = frozenset({EXPLICIT_LITTLE, "1.2.840.10008.1.2"})
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = PLAIN | {DEFLATED, BIG_ENDIAN}

#: Offset and length of one piece of a file, in bytes.
Piece = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLayout:
    """Where the frames of an object lie in its file; `frames` 0: it has none.

    Of frames that are not compressed, the first begins at `offset` and each has `frame_bytes`; of compressed ones,
    `fragments` holds offset and length of each fragment, frame by frame. Neither is known where frames do not begin
    at a byte (one bit per pixel), where the data set is deflated, and where nothing tells the frames apart.
    """

    transfer_syntax_uid: str
    frames: int = 0
    offset: int = 0
    frame_bytes: int = 0
    fragments: tuple[tuple[int, ...], ...] = ()

    def pieces(self, number: int) -> tuple[Piece, ...]:
        """Return where frame `number`, from 1, lies; nothing where that is not known."""
        if self.frame_bytes:
            return ((self.offset + (number - 1) * self.frame_bytes, self.frame_bytes),)
        if not self.fragments:
            return ()
        places = self.fragments[number - 1]
        return tuple(zip(places[::2], places[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Described:
    """The header of an object by the DICOM JSON Model (PS3.18 F), and where its frames lie.

    Addresses of bulk data in it begin with ``bulkdata/``, relative to that of the instance.
    """

    header: str
    layout: FrameLayout


@dataclass(frozen=True, slots=True)
class NotDescribed:
    """An object that cannot be read, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class EncodedFrames:
    """Bytes, and what they are."""

    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class DescribeRequest:
    """Describe these files."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One frame of a file, from 1, and where it lies where that is known."""

    path: Path
    number: int
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """Decode frames; they come as in Explicit VR Little Endian."""

    frame: StoredFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a frame is to be shown (PS3.18 8.3.5).

    `window` is center, width and function. `viewport` is columns and rows of the picture at most. `region` is left,
    top, columns and rows of what is shown of the image, in pixels, mirrored where columns or rows are negative.
    """

    media_type: str = "image/jpeg"
    quality: int = 90
    window: tuple[float, float, str] | None = None
    viewport: tuple[int, int] | None = None
    region: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Draw one frame."""

    frame: StoredFrame
    view: View


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """Return the value at a path of tags and item numbers from 0, as in ``00081140/0/00091010``."""

    path: Path
    place: str


@dataclass(frozen=True, slots=True)
class ExplicitRequest:
    """Write the object as Explicit VR Little Endian to `name` in the folder of the process's results."""

    path: Path
    out: Path


Request = DescribeRequest | DecodeRequest | RenderRequest | BulkRequest | ExplicitRequest
Answer = list[Described | NotDescribed] | EncodedFrames
