"""What a C-STORE status (PS3.7 C, PS3.4 GG.4.2) or a STOW-RS reason (PS3.18 I.2.2) means for a delivery."""

from __future__ import annotations

from dicom_node.core.errors import ClassRefused, CredentialsRefused, DeliveryDeferred, DeliveryError, DeliveryRefused

SUCCESS = 0x0000
DUPLICATE = 0x0111
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORISED = 0x0124
NO_SUCH_SOP_CLASS = 0x0118
_CLASS_REFUSED = {SOP_CLASS_NOT_SUPPORTED, NO_SUCH_SOP_CLASS}
#: Warnings outside 0xB000-0xBFFF (PS3.7 C.4): the object was stored.
_OTHER_WARNINGS = {0x0001, 0x0107, 0x0116}

_MEANINGS = {
    0x0110: "processing failure",
    0x0117: "invalid object instance",
    0x0119: "class and instance conflict",
    0x0210: "duplicate invocation",
    0x0213: "resource limitation",
    0xB000: "coerced some elements",
    0xB006: "discarded some elements",
    0xB007: "data set does not match the SOP class",
}

#: What may help when a SOP class is not taken; keyed by the words of its name.
_SOP_CLASS_ADVICE = {
    "SR": "Set results.sr_sop_class to auto (or to comprehensive or enhanced), or enable this class at the receiver.",
    "SEG": "Enable Segmentation Storage at the receiver; the pictures (SC) show the masks as well.",
}


def advice_for(kind: str) -> str:
    """Return what to do when the receiver takes no objects of this kind (`ArtifactKind`)."""
    return _SOP_CLASS_ADVICE.get(kind, "Enable this SOP class at the receiver.")


def note_of(status: int) -> str:
    """Return what the timeline says of an object that was delivered with this status."""
    if status == SUCCESS:
        return "stored"
    if status == DUPLICATE:
        return "already there (0x0111)"
    return f"stored with a warning: {_MEANINGS.get(status, 'no explanation')} (0x{status:04X})"


def warning_of(status: int) -> int | None:
    """Return the status where it says that the object was stored, but not as it was sent; `None` where it was."""
    return None if status in {SUCCESS, DUPLICATE} else status


def error_of(status: int, receiver: str, kind: str) -> DeliveryError | None:
    """Return the error a status means, or `None` when the object was stored.

    The receiver's own comment is left out: some quote the patient.
    """
    if status in {SUCCESS, DUPLICATE} | _OTHER_WARNINGS or 0xB000 <= status <= 0xBFFF:
        return None
    told = f"{receiver} answered 0x{status:04X}"
    if status == NOT_AUTHORISED:
        return CredentialsRefused(f"{told} (not authorised). Allow this node to store there.")
    refused = _refusal(status, kind)
    if status in _CLASS_REFUSED:
        return ClassRefused(f"{told} ({refused}")
    if refused:
        return DeliveryRefused(f"{told} ({refused}")
    meaning = "out of resources" if 0xA700 <= status <= 0xA7FF else _MEANINGS.get(status, "failure")
    return DeliveryDeferred(f"{told} ({meaning}); tried again later.")


def _refusal(status: int, kind: str) -> str:
    """Return why a status is final and what to do about it; empty when trying again may help."""
    if status in _CLASS_REFUSED:
        return f"SOP class not supported). {advice_for(kind)}"
    if 0xA900 <= status <= 0xA9FF:
        return "data set does not match SOP class). Look into the receiver's log, then retry."
    if 0xC000 <= status <= 0xCFFF:
        return "cannot understand the object). Look into the receiver's log, then retry."
    return ""
