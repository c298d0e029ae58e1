"""Deterministic identifiers: the same inputs always give the same UID, so a retry makes the same object.

UIDs are ``2.25.`` followed by a UUID as a decimal number (PS3.5 B.2), at most 44 characters.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable

#: Namespace of every UID this product derives. Never change it: all identities in every PACS hang on it.
NAMESPACE = uuid.UUID("5d3c7d0a-9a40-5b0e-8f43-2c1f6e7d9b10")

#: Identifies this implementation in associations and file meta headers (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID = f"2.25.{uuid.uuid5(NAMESPACE, 'implementation').int}"
IMPLEMENTATION_VERSION_NAME = "DICOMAINODE_01"

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_SEPARATOR = "\x1f"


def derived_uid(*parts: str) -> str:
    """Return the UID that stands for these parts, in this order."""
    return f"2.25.{uuid.uuid5(NAMESPACE, _SEPARATOR.join(parts)).int}"


def new_uid() -> str:
    """Return a UID that has never been before: for a transaction, never for an object."""
    return f"2.25.{uuid.uuid4().int}"


def derived_uuid(*parts: str) -> uuid.UUID:
    """Return the UUID that stands for these parts (for FHIR ``urn:uuid:`` references)."""
    return uuid.uuid5(NAMESPACE, _SEPARATOR.join(parts))


def tracking_uid(job_key: str, finding_key: str) -> str:
    """Return the UID that follows one finding of one job through SR, SEG and the FHIR Observation.

    It is the Tracking Unique Identifier (0062,0021) of the SR's measurement group and of the segment, and the
    identifier by which the EHR updates the Observation instead of adding another.
    """
    return derived_uid(job_key, "tracking", finding_key)


def coding_scheme_uid(designator: str) -> str:
    """Return the UID by which SR and FHIR identify a private coding scheme (PS3.3 C.12.1.1.2)."""
    return derived_uid("coding-scheme", designator)


def is_valid_uid(text: str) -> bool:
    """Tell whether `text` is digits and single dots, 1 to 64 characters (PS3.5 9.1; leading zeros are tolerated)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def loggable_uid(text: str) -> str:
    """Return what a log may say of a UID that came from outside: what is none may be anything, a name too."""
    return text if is_valid_uid(text) else "(no UID)"


def job_key(study_instance_uid: str, instance_digests: Iterable[str], model_digest: str, config_digest: str) -> str:
    """Return the key under which one analysis is stored: equal inputs, model and configuration give the same key.

    `instance_digests` are ``sop_instance_uid:sha256`` texts in any order.
    """
    parts = [study_instance_uid, *sorted(instance_digests), model_digest, config_digest]
    return hashlib.sha256(_SEPARATOR.join(parts).encode()).hexdigest()


def repeated_job_key(job_key: str, times: int) -> str:
    """Return the key of an analysis that is answered anew, `times` after the answer under `job_key` was replaced."""
    return hashlib.sha256(_SEPARATOR.join([job_key, str(times)]).encode()).hexdigest()


def reviewed_job_key(job_key: str, decision_digest: str) -> str:
    """Return the key of the result that tells a person's decision on the result under `job_key`."""
    return hashlib.sha256(_SEPARATOR.join([job_key, "review", decision_digest]).encode()).hexdigest()
