"""The link from a result to its images in the site's own viewer, made from a destination's template `viewer_url`."""

from __future__ import annotations

from urllib.parse import quote


def viewer_link(
    template: str | None, *, study_instance_uid: str, accession_number: str = "", patient_id: str = ""
) -> str:
    """Return the address of a study in a viewer; empty where there is no template, or where a value it needs is empty.

    Each value is quoted as a whole (RFC 3986 2.1), so that none can end the part of the address that it stands in: a
    link that leads to another patient's images is worse than none.

    >>> viewer_link("https://viewer.example/?StudyInstanceUIDs={study_instance_uid}", study_instance_uid="1.2.3")
    'https://viewer.example/?StudyInstanceUIDs=1.2.3'
    >>> viewer_link("https://viewer.example/open?acc={accession_number}", study_instance_uid="1.2.3")
    ''
    """
    values = {
        "study_instance_uid": study_instance_uid,
        "accession_number": accession_number,
        "patient_id": patient_id,
    }
    needed = [name for name in values if f"{{{name}}}" in (template or "")]
    if not template or not all(values[name] for name in needed):
        return ""
    return template.format_map({name: quote(value, safe="") for name, value in values.items()})
