"""A hospital on a bad day: studies that are split, sent twice, merged and corrected at once, and a node that is killed.

Senders are DCMTK and Orthanc; Orthanc, which is the PACS, and a FHIR server are what the results are counted in. All
studies live through the same three steps, so that the node is killed in the middle of them twice, not once a study.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_node.core.uids import derived_uid
from tests.acceptance.site import FINISHED, Site
from tests.peers.dcmtk import dcmsend, storescu
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port, wait_until
from tests.support.needs import REAL_DATA
from tests.support.studies.data_factories import changed, small_chest_ct
from tests.support.studies.rejection_notes import SAFETY, rejection_note

ROUTES = [
    {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.5, "when": {"modality": "CT"}},
    {"name": "film", "model": "cxr-pneumonia", "quiet_period_s": 1.5, "when": {"modality": ["CR", "DX"]}},
]
#: What Orthanc calls the node: not by the name under which its routing script would send to it.
_NODE = "node"
#: Studies corrected at their source, in two versions: by the name of their folder.
WORKLIST, FILM, RECOMPRESSED = (
    f"faults/{name}"
    for name in ("c12b_mismatch_then_corrected", "x37_age_added_and_sent_again", "c51_same_images_recompressed")
)
#: A study of which a note rejects all images, in its second folder.
REJECTED = "faults/variety/a35_kos_rejected"


class Hospital(Site):
    """The node between its senders, the PACS and the EHR; `play` is the bad day, the rest is what it left."""

    def __init__(self, folder: Path, pacs: Orthanc, ehr: FhirServer) -> None:
        there = {"ae_title": pacs.aet, "host": pacs.host, "port": pacs.dicom_port}
        destinations = [
            {"name": "pacs", "kind": "dicom", **there, "outputs": {"secondary_capture": False}},
            {"name": "ehr", "kind": "fhir", "url": ehr.url, "patient": "logical"},
        ]
        port = {"port": free_port(), "journal_mb": 192}
        settings: dict[str, Any] = {"route": ROUTES, "destination": destinations, "dicom": port}
        super().__init__(Node(folder / "node", settings), pacs, ehr)
        self._folder = folder
        self.split, self.split_off = _two_series("split"), derived_uid("split-off")
        self.rejected = _two_series("rejected")
        self.twice, self.merged, self.returned = (small_chest_ct(name)[0] for name in ("twice", "merged", "returned"))
        #: What the node said of each study after the first step.
        self.first: dict[str, dict[str, Any]] = {}

    # --- the day -------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Everything comes; everything is corrected, and the node killed as soon as it has said that it has it; one
        correction is taken back, and the node killed when the PACS knows of it and the EHR does not."""
        self.node.start()
        self.pacs.know(self.node.aet, self.node.dicom_port, _NODE)
        self._at_once(self._first_versions())
        self.first = self._ended(self._expected(1))

        self._at_once(self._corrections())
        self.node.kill9()
        self.node.start()
        self._ended(self._expected(2) | {self.split_off: 1})

        self.ehr.set(fail={"status": 503, "count": 1_000_000})
        self._send("returned-again", self.returned, "CT1")
        wait_until(lambda: len(self._reports_now(uid_of(self.returned))) >= 4, 240, "the PACS to hear of it")
        self.node.kill9()
        self.ehr.set(fail=None)
        self.node.start()
        self._ended({uid_of(self.returned): 3})

    def _expected(self, corrected: int) -> dict[str, int]:
        """Which revision each study comes to; what came again unchanged stays at its first."""
        revised = [
            *map(uid_of, (self.split, self.merged, self.returned, self.rejected)),
            *map(study_in, _kept(WORKLIST, FILM, REJECTED)),
        ]
        same = [uid_of(self.twice), *map(study_in, _kept(RECOMPRESSED))]
        return {**dict.fromkeys(revised, corrected), **dict.fromkeys(same, 1)}

    def _first_versions(self) -> list[Callable[[], None]]:
        return [
            partial(self._send, "split-1", self.split, "CT1"),
            partial(self._send, "twice-1", self.twice, "CT1"),
            partial(self._send, "twice-2", self.twice, "ROUTER"),
            partial(self._store_from_pacs, self.merged),
            partial(self._send, "returned-1", self.returned, "CT1"),
            partial(self._send, "rejected-1", self.rejected, "CT1"),
            *(partial(_dcmsend, self.node, one / "1", "MOD1") for one in _kept(WORKLIST, RECOMPRESSED, FILM, REJECTED)),
        ]

    def _corrections(self) -> list[Callable[[], None]]:
        moved = changed(self.split[32:], lambda image: setattr(image, "StudyInstanceUID", self.split_off))
        compressed = changed(self.twice, lambda image: image.compress(RLELossless, generate_instance_uid=False))
        merged = changed(self.merged, lambda image: setattr(image, "PatientID", "MERGED-INTO"))
        renamed = changed(self.returned, lambda image: setattr(image, "PatientID", "RETURNED-WRONGLY"))
        return [
            partial(self._send, "split-2", moved, "PACS"),
            partial(self._send, "twice-3", compressed, "ARCHIVE"),
            partial(self._store_from_pacs, merged),
            partial(self._send, "returned-2", renamed, "CT1"),
            partial(self._store_from_pacs, [self.note]),
            *(partial(_dcmsend, self.node, one / "2", "MOD1") for one in _kept(WORKLIST)),
            *(partial(_dcmsend, self.node, one / "2", "ARCHIVE") for one in _kept(RECOMPRESSED)),
            *(partial(_storescu, self.node, one / "2") for one in _kept(FILM, REJECTED)),
        ]

    @cached_property
    def note(self) -> Dataset:
        """What rejects the series from which the study was analysed."""
        used = self.study(uid_of(self.rejected))["jobs"][0]["series_instance_uid"]
        return rejection_note([one for one in self.rejected if one.SeriesInstanceUID == used], title=SAFETY)

    def _at_once(self, steps: Sequence[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(len(steps)) as pool:
            for done in [pool.submit(step) for step in steps]:
                done.result()

    def _send(self, name: str, images: Sequence[Dataset], calling: str) -> None:
        _dcmsend(self.node, _written(images, self._folder / name), calling)

    def _store_from_pacs(self, images: Sequence[Dataset]) -> None:
        """Have the PACS, where nothing else is of these SOP Instances, send them to the node."""
        uids = {str(image.SOPInstanceUID) for image in images}
        for there in self.pacs.instances():
            if self.pacs.get(f"/instances/{there}/simplified-tags")["SOPInstanceUID"] in uids:
                self.pacs.http.delete(f"/instances/{there}").raise_for_status()
        stored = [self.pacs.upload_dataset(image) for image in images]
        answer = self.pacs.post(f"/modalities/{_NODE}/store", stored)
        assert (answer["InstancesCount"], answer["FailedInstancesCount"]) == (len(images), 0)

    def _ended(self, revisions: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Wait until these revisions of studies have ended and nothing is owed; return what is shown of the studies."""
        self.node.wait_until_settled()
        for study, revision in revisions.items():
            wait_until(partial(self._is_ended, study, revision), 240, f"revision {revision} of study {study}", 0.25)
        return {study: self.study(study) for study in revisions}

    def _is_ended(self, study: str, revision: int) -> bool:
        line = self.study(study)["study"]
        return line["revision"] >= revision and line["state"] in FINISHED and not line["deliveries"]["pending"]

    def _reports_now(self, study: str) -> list[str]:
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study, "Modality": "SR"}}
        return list(self.pacs.post("/tools/find", query))

    # --- what is left of it --------------------------------------------------------------------------------------

    @cached_property
    def objects(self) -> list[Mapping[str, Any]]:
        """The headers of the results in the PACS, in the order in which they came."""
        came = [one for one in self.pacs.get("/changes?limit=5000")["Changes"] if one["ChangeType"] == "NewInstance"]
        there = set(self.pacs.instances())
        kept = [one["ID"] for one in came if one["ID"] in there]
        headers = [self.pacs.get(f"/instances/{one}/simplified-tags") for one in dict.fromkeys(kept)]
        return [one for one in headers if one.get("SeriesDescription", "").startswith("AI ")]

    def objects_of(self, study: str) -> list[Mapping[str, Any]]:
        """The results of one study in the PACS."""
        return [one for one in self.objects if one["StudyInstanceUID"] == study]

    def of_result(self, study: str, number: int) -> list[Mapping[str, Any]]:
        """The objects in the PACS of a study's result of this sequence number."""
        (result,) = [one for one in self.study(study)["results"] if one["sequence"] == number]
        made = {one["uid"] for one in result["artifacts"]}
        return [one for one in self.objects if one["SOPInstanceUID"] in made and not is_withdrawal(one)]

    def is_in_order(self, study: str, number: int) -> bool:
        """Tell whether the PACS heard that a result is withdrawn before it had anything of the next one."""
        (report,) = [one for one in self.of_result(study, number) if one["Modality"] == "SR"]
        telling = [one for one in self.objects_of(study) if is_withdrawal(one)]
        (taking_back,) = [one for one in telling if _predecessor(one) == report["SOPInstanceUID"]]
        next_ones = self.of_result(study, number + 1)
        return all(self.objects.index(taking_back) < self.objects.index(one) for one in next_ones)

    def statuses(self, *patients: str) -> dict[str, Counter[str]]:
        """How many reports of each status the EHR has of these patients."""
        return {patient: Counter(report["status"] for report in self.reports_of(patient)) for patient in patients}

    def reports_of(self, patient: str) -> list[dict[str, Any]]:
        """The reports that the EHR has of a patient, in the order in which it last changed them."""
        mine = [one for one in self._reports if one["subject"]["identifier"]["value"] == patient]
        return sorted(mine, key=lambda report: str(report["meta"]["lastUpdated"]))

    @cached_property
    def _reports(self) -> list[dict[str, Any]]:
        return self.ehr.all("DiagnosticReport")

    def versions(self, study: str) -> list[dict[str, Any]]:
        """What the node shows of a study's images that came in more than one version."""
        with self.node.api() as api:
            page = api.get(f"/api/studies/{study}/versions").raise_for_status().json()
        assert page["total"] == len(page["instances"])
        return list(page["instances"])

    def told(self, study: str, kind: str) -> list[str]:
        """The sentences of one kind in a study's timeline."""
        with self.node.api() as api:
            lines = api.get(f"/api/studies/{study}/timeline").raise_for_status().json()
        return [line["text"] for line in lines if line["kind"] == kind]


def is_withdrawal(one: Mapping[str, Any]) -> bool:
    """Tell the report that takes a result back from one that tells a result."""
    return "WITHDRAWN" in one["SeriesDescription"]


def _predecessor(one: Mapping[str, Any]) -> str:
    (study,) = one["PredecessorDocumentsSequence"]
    (series,) = study["ReferencedSeriesSequence"]
    (report,) = series["ReferencedSOPSequence"]
    return str(report["ReferencedSOPInstanceUID"])


def uid_of(images: Sequence[Dataset]) -> str:
    """The study that images are of."""
    return str(images[0].StudyInstanceUID)


def _two_series(seed: str) -> list[Dataset]:
    """A study of two chest CTs of 32 slices, one series each."""
    first, second = small_chest_ct(seed)[0], small_chest_ct(f"{seed}-second")[0]
    for image in second:
        image.StudyInstanceUID, image.SeriesNumber = first[0].StudyInstanceUID, 7
        for keyword in ("PatientID", "PatientName", "StudyID", "AccessionNumber", "FrameOfReferenceUID"):
            image[keyword] = copy.deepcopy(first[0][keyword])
    return [*first, *second]


def _written(images: Sequence[Dataset], folder: Path) -> Path:
    folder.mkdir()
    for one in images:
        if not one.file_meta.TransferSyntaxUID.is_compressed:
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"{one.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def _kept(*folders: str) -> list[Path]:
    """Those of the folders that lie beside this checkout."""
    return [REAL_DATA / one for one in folders if (REAL_DATA / one).exists()]


def study_in(folder: Path) -> str:
    return str(dcmread(next((folder / "1").iterdir()), stop_before_pixels=True).StudyInstanceUID)


def _dcmsend(node: Node, folder: Path, calling: str) -> None:
    sent = dcmsend(node.dicom_port, folder, calling=calling)
    assert sent.returncode == 0, sent.stdout[-400:]


def _storescu(node: Node, folder: Path) -> None:
    sent = storescu(node.dicom_port, folder)
    assert sent.returncode == 0, sent.stdout[-400:]
