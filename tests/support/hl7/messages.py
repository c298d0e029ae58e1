"""Messages of a hospital's information systems, as text with <CR> between segments."""

from __future__ import annotations

from itertools import count

_NUMBERS = count(1)
NAME = "Muster^Erika^^^Dr"


def message(kind: str, *segments: str, control_id: str = "", more: str = "||||||UNICODE UTF-8") -> str:
    """Return a message; `more` is what stands behind the version in MSH (MSH-13 and on)."""
    control_id = control_id or f"M{next(_NUMBERS):06d}"
    head = f"MSH|^~\\&|HIS|HOSPITAL|AINODE||20261120101010||{kind}|{control_id}|P|2.5.1{more}"
    return "".join(f"{segment}\r" for segment in (head, *segments))


def pid(*numbers: str, name: str = NAME, born: str = "19600102", sex: str = "F") -> str:
    """Return a PID segment; a number may say who gave it out (``4711^^^HOSP``)."""
    return f"PID|1||{'~'.join(numbers)}||{name}||{born}|{sex}"


def merge(prior: str, surviving: str, event: str = "A40", **more: str) -> str:
    """Return the message by which one number takes the place of another."""
    return message(f"ADT^{event}^ADT_A39", f"EVN|{event}|20261120", pid(surviving, **more), f"MRG|{prior}")


def order(accession: str, patient: str = "4711^^^HOSP", *, control: str = "NW", **more: str) -> str:
    """Return an ORM^O01; `more`: `placer`, `reason`, `priority`, `control_id`."""
    placer = more.get("placer", f"P{accession}^HIS")
    obr = f"OBR|1|{placer}|F{accession}^RIS|CTCH^CT chest^L|{more.get('priority', 'S')}|20261120083000+0100||||||||||||"
    return message(
        "ORM^O01^ORM_O01", pid(patient), f"ORC|{control}|{placer}|F{accession}^RIS",
        f"{obr}{accession}|||||||||||||^{more.get('reason', 'Cough for six weeks')}",
        control_id=more.get("control_id", ""),
    )  # fmt: skip


def report(accession: str, *observations: str, patient: str = "4711^^^HOSP", status: str = "F", **more: str) -> str:
    """Return an ORU^R01 with one OBR; an observation is a whole OBX segment, or a line of text. `more`: `filler`,
    `at` (OBR-22), `study` (ZDS-1), `control_id`, `procedure` (OBR-4)."""
    filler = more.get("filler", f"F{accession}^RIS")
    obr = f"OBR|1||{filler}|{more.get('procedure', 'XRCH^Chest radiograph^L')}" + "|" * 14 + accession
    obr += f"||||{more.get('at', '20261120120000')}||RAD|{status}"
    obx = [
        one if one.startswith("OBX|") else f"OBX|{place}|TX|59776-5^Findings^LN||{one}||||||{status}"
        for place, one in enumerate(observations, start=1)
    ]
    study = [f"ZDS|{more['study']}^RIS^Application^DICOM"] if "study" in more else []
    return message("ORU^R01^ORU_R01", pid(patient), obr, *obx, *study, control_id=more.get("control_id", ""))
