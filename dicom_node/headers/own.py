"""A report that the node has made may call itself verified only where a person has verified it: the process that wrote
it also ran a model's code, which may write whatever it likes.

Nothing is parsed here, so that no reader can find in the bytes what this look at them has passed over.
"""

from __future__ import annotations

import re

from dicom_node.core.errors import ReportInvalid
from dicom_node.headers.file_meta import file_head

#: The one encoding in which the node writes its results; none that would hide what stands in them.
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
#: VerificationFlag (0040,A493) VERIFIED and PreliminaryFlag (0040,A496) FINAL, wherever they stand and whatever VR is
#: told of them: with a length of two bytes or four (PS3.5 7.1.2), or no VR at all.
_ATTESTED = re.compile(
    rb"\x40\x00(?:\x93\xa4(?:.{4}|[A-Z]{2}\0\0.{4})[ \0]*VERIFIED|\x96\xa4(?:.{4}|[A-Z]{2}\0\0.{4})[ \0]*FINAL)",
    re.DOTALL | re.IGNORECASE,
)


def require_unverified(content: bytes, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Raise `ReportInvalid` where a finished object says that a person has verified it, or hides what it says.

    `content` is a whole file (PS3.10); the UIDs are those that it is kept under.
    """
    if not content.startswith(file_head(sop_class_uid, sop_instance_uid, _EXPLICIT_LITTLE)):
        raise ReportInvalid("It does not begin as the objects of the node do.")
    if _ATTESTED.search(content):
        raise ReportInvalid("It says that it is verified or final, and no person has reviewed it.")
