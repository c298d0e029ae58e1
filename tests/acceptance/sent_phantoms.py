"""Small chest CTs that a modality of the test's own sends, and what of them was acknowledged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pydicom

from dicom_node.demo.phantoms import chest_ct_phantom
from tests.peers.node import Node
from tests.support.needs import REPOSITORY


@dataclass(frozen=True, slots=True)
class SentPhantom:
    """A chest CT of 32 slices in a folder of its own; each file bears the name of its SOP Instance UID."""

    folder: Path
    study_instance_uid: str
    patient_id: str

    @classmethod
    def written(cls, folder: Path, seed: str, priority: str = "") -> SentPhantom:
        """Write one, all of whose values follow from `seed`; `priority` is its RequestedProcedurePriority."""
        slices, _ = chest_ct_phantom(seed, slices=32, rows=128, slice_spacing_mm=10.0)
        target = folder / f"study-{seed}"
        target.mkdir()
        for dataset in slices:
            if priority:
                dataset.RequestedProcedurePriority = priority
            dataset.save_as(target / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        return cls(target, str(slices[0].StudyInstanceUID), str(slices[0].PatientID))

    def start_sending(self, node: Node) -> subprocess.Popen[str]:
        """Begin to send it in a process of its own, on one association."""
        peer = f"{node.aet}@127.0.0.1:{node.dicom_port}"
        command = [sys.executable, "-m", "dicom_node", "send", "--json", "--from", "MOD1", "--to", peer]
        return subprocess.Popen([*command, str(self.folder)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)

    def send(self, node: Node) -> bool:
        """Send it whole; tell whether everything was taken."""
        sender = self.start_sending(node)
        sender.communicate(timeout=300)
        return sender.returncode == 0

    def kept_by(self, data_dir: Path) -> set[str]:
        """Return the SOP Instance UIDs of what lies in the spool with the very pixels that were sent."""
        sent = {path.stem: pydicom.dcmread(path) for path in self.folder.iterdir()}
        kept = {uid: pydicom.dcmread(path) for uid, path in self.files_in(data_dir).items()}
        return {uid for uid, dataset in kept.items() if dataset.PixelData == sent[uid].PixelData}

    def files_in(self, data_dir: Path) -> dict[str, Path]:
        """Return the files of the spool that hold images of this study, by SOP Instance UID."""
        sent = {path.stem for path in self.folder.iterdir()}
        objects = (data_dir / "spool" / "objects").rglob("*.dcm")
        named = {str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path for path in objects}
        return {uid: path for uid, path in named.items() if uid in sent}


def acknowledged(sender: subprocess.Popen[str]) -> set[str]:
    """Return every SOP Instance UID that the sender has seen answered with success, once it has ended."""
    output, _ = sender.communicate(timeout=300)
    return {sent["sop_instance_uid"] for sent in json.loads(output) if sent["stored"]}
