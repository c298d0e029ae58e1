"""The result in a sentence, what was looked at, what it is worth: the same words in picture and document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.analysis import Analysis, NotAnalysed, ReportContext, whole_objects
from dicom_node.model import Finding, ModelIdentity, Presence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, in a sentence; `presence` sets its tone, and `caveat` says what it does not mean."""

    text: str
    presence: Presence
    caveat: str = ""


def verdict_on(findings: Sequence[Finding]) -> Verdict | None:
    """Return the result about what was looked for; `None` when nothing was, as in a mere measurement."""
    answered = [finding for finding in findings if finding.presence is not None]
    total = len(answered)
    present = sum(finding.presence is Presence.PRESENT for finding in answered)
    undetermined = sum(finding.presence is Presence.UNDETERMINED for finding in answered)
    if not answered:
        return None
    if present:
        return Verdict(f"{present} of {total} findings PRESENT", Presence.PRESENT)
    if undetermined:
        return Verdict(f"Nothing found, but {undetermined} of {total} findings UNDETERMINED", Presence.UNDETERMINED)
    looked_for = f"Looked for: {total} finding{'s' * (total > 1)}, listed below. Other disease is not excluded."
    return Verdict("NOTHING FOUND of what was looked for", Presence.ABSENT, looked_for)


def looked_at(answer: Analysis | NotAnalysed) -> str:
    """Return what was analysed, without a word about the patient: ``Looked at: 47 images, CT``."""
    objects = whole_objects(answer.sources)
    count = len(answer.sources)
    kinds = ", ".join(dict.fromkeys(str(source.get("Modality") or "?") for source in objects))
    frames = f"{count} frames of {len(objects)} object{'s' * (len(objects) > 1)}"
    images = f"{count} image{'s' * (count != 1)}" if len(objects) == count else frames
    return f"Looked at: {images}, {kinds}"


def state_of(model: ModelIdentity, context: ReportContext) -> str:
    """Return how far the answer may be trusted."""
    deployed = "research only" if context.intended_use == "research" else "decision support"
    scores = "calibrated" if model.calibrated else "not calibrated"
    return f"Not verified: a physician must review the images. Deployed for {deployed}. Model {scores}."
