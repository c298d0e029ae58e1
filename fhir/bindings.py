"""Required value sets of R4 4.0.1 for the coded elements the node writes, narrowed to what it may say."""

from __future__ import annotations

#: By full element path. A report or Observation of the node is never final: only a physician may say so.
ALLOWED_CODES: dict[str, frozenset[str]] = {
    "Device.status": frozenset({"active", "inactive", "entered-in-error", "unknown"}),
    "Device.deviceName.type": frozenset(
        {
            "udi-label-name",
            "user-friendly-name",
            "patient-reported-name",
            "manufacturer-name",
            "model-name",
            "other",
        }
    ),
    "Endpoint.status": frozenset({"active", "suspended", "error", "off", "entered-in-error", "test"}),
    "ImagingStudy.status": frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"}),
    "Observation.status": frozenset({"preliminary", "entered-in-error"}),
    "DiagnosticReport.status": frozenset({"preliminary", "partial", "entered-in-error"}),
    "Provenance.entity.role": frozenset({"derivation", "revision", "quotation", "source", "removal"}),
}

#: By the last two parts of the path, for data types that occur in many resources.
ALLOWED_EVERYWHERE: dict[str, frozenset[str]] = {
    "identifier.use": frozenset({"usual", "official", "temp", "secondary", "old"}),
    "text.status": frozenset({"generated", "extensions", "additional", "empty"}),
}
