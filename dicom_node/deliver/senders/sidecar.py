"""The JSON file beside a delivered DICOM object, for programs that watch a folder: what the object is, by which model,
and whether it still holds. It names no patient, and no text that a person wrote."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from dicom_node.core.entities import AboutResult, ObjectName, ResultState
from dicom_node.deliver.outgoing import Outgoing

#: Grows when a key changes its meaning or goes; new keys may come at any time.
FORMAT = 1


def file_name(name: ObjectName) -> str:
    """Return the name of the file that holds a DICOM object of the node."""
    return f"{name.kind}-{name.uid}.dcm"


def path_beside(file: Path) -> Path:
    """Return where the sidecar of a file lies."""
    return file.with_name(f"{file.name}.json")


def text(item: Outgoing, about: AboutResult, name: str, include: Collection[str]) -> str:
    """Return the sidecar of an object that lies under `name`; equal for equal objects, whenever it is written.

    What takes back holds while its result does not.
    """
    artifact = item.artifact
    told: dict[str, object] = {
        "format": FORMAT,
        "file": name,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "kind": artifact.kind.value,
        "description": artifact.description,
        "sop_class_uid": artifact.sop_class_uid,
        "sop_instance_uid": artifact.uid,
        "series_instance_uid": artifact.series_instance_uid,
        "study_instance_uid": about.study_instance_uid,
        "revision": about.revision,
        "route": about.route,
        "model": {"name": about.model, "version": about.model_version, "digest": about.model_digest},
        "result": about.result,
        "sequence": about.sequence,
        "state": about.state.value,
        "reason": about.reason,
        "standing": (ResultState.CURRENT if item.is_withdrawal else about.standing).value,
        "replaced_by": "",
        "replaces": [_named(one) for one in (() if item.is_withdrawal else about.replaces)],
        "takes_back": [_named(one) for one in (about.taken_back if item.is_withdrawal else ())],
    }
    if "accession_number" in include:
        told["accession_number"] = about.accession_number
    return _json(told)


def _named(name: ObjectName) -> dict[str, str]:
    return {"file": file_name(name), "sop_instance_uid": name.uid}


def changed(path: Path, standing: ResultState, result: str) -> str | None:
    """Return a sidecar that says of its object how it stands now, and which result took its place.

    `None` where nothing changes: it says so already, somebody has taken it away, or it is not the node's any more.
    What is withdrawn stays so. Raises `OSError`.
    """
    try:
        told = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("standing") in {standing, ResultState.WITHDRAWN}:
        return None
    told["standing"] = standing.value
    told["replaced_by"] = result if standing is ResultState.SUPERSEDED else ""
    return _json(told)


def _json(told: dict[str, object]) -> str:
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"
