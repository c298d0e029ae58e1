"""Models that read several series of one study together: which series is which, and each voxel at its place in all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.__main__ import main
from dicom_node.api.results import AnalysisSummary
from dicom_node.core.entities import JobState
from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.channels import on_one_grid
from dicom_node.inference.images.volume import Volume, read_volume
from dicom_node.offline import StudyResult, run
from tests.peers import dcmtk
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.models.zoo_bundles import compose, write_bundle
from tests.support.studies.volumes import affine, classic, stored
from tests.support.validators.objects import assert_valid_dicom

NAMES = ("T1 with contrast", "T1", "T2", "FLAIR")
DESCRIPTIONS = {"FLAIR": "AX FLAIR", "T2": "AX T2", "T1": "AX T1", "T1 with contrast": "AX T1 +C", "DWI": "AX DWI"}
#: Voxels that are bright in each series, each of its own number, so that nothing can be taken for another.
BRIGHT = {name: 2 + place for place, name in enumerate((*NAMES, "DWI"))}
VOXEL_ML = 0.8 * 1.1 * 2.5 / 1000
EXPECTED_ML = {f"from-{place}": BRIGHT[name] * VOXEL_ML for place, name in enumerate(NAMES, start=1)}

CARD = """
task = "segmentation"
[gate]
min_slices = 4
test_subjects_allowed = true
[[accepts]]
modality = "MR"
series_description = { regex = "[+]c" }
"""
SEGMENT = """
[[segment]]
value = VALUE
key = "from-VALUE"
label = "From channel VALUE"
type = { value = "78961009", scheme = "SCT", meaning = "Spleen" }
"""
CHANNEL = """
[[channel]]
key = "NAME"
when = { series_description = { regex = "REGEX" } }
"""
REGEX = {"T1 with contrast": "[+]c", "T1": "t1$", "T2": "t2", "FLAIR": "flair"}


def volume(tmp_path: Path, name: str, values: np.ndarray, place: np.ndarray, **changes: Any) -> Volume:
    images = stored(classic(values, place, modality="MR", name=name, **changes), tmp_path / name)
    return read_volume(images, Gate(), [])


def ramp(place: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Values that follow from where a voxel lies in the patient, so that each grid must show the same of one place."""
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    world = np.einsum("ij,j...->i...", place, np.stack([x, y, z, np.ones(shape)]))
    return np.rint(500 + 4 * world[0] + 3 * world[1] + 2 * world[2]).astype(np.int16)


def test_series_on_other_grids_are_laid_on_the_first_by_their_place_in_the_patient(tmp_path: Path) -> None:
    here, there = affine(), affine((1.6, 0.9, 2.0), (-44.0, -33.0, 8.0))
    first = volume(tmp_path, "first", ramp(here, (6, 20, 18)), here)
    other = volume(tmp_path, "other", ramp(there, (14, 34, 16)), there)

    found = on_one_grid([first, other], ["a", "b"])

    assert found.shape == (2, 6, 20, 18)
    assert np.array_equal(found[0], first.values_zyx)
    assert np.abs(found[1] - found[0]).max() <= 2


def test_series_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    here, away = affine(), affine(origin_mm=(400.0, -30.0, 12.0))
    values = ramp(here, (6, 20, 18))
    first = volume(tmp_path, "first", values, here)

    with pytest.raises(NotAnalysable, match="for b covers 0%") as refused:
        on_one_grid([first, volume(tmp_path, "away", values, away)], ["a", "b"])
    assert refused.value.reason == "CHANNELS_APART"
    with pytest.raises(NotAnalysable, match="do not share a frame of reference"):
        on_one_grid([first, volume(tmp_path, "other", values, here, FrameOfReferenceUID="1.2.3")], ["a", "b"])


def four_channels(folder: Path, card: str = CARD) -> Path:
    """Write a bundle whose class is the number of the channel that is bright."""
    weight = torch.cat([torch.zeros(1, 4), torch.eye(4)])[..., None, None, None]
    bias = torch.tensor([500.0, 0.0, 0.0, 0.0, 0.0])
    config = {
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 5, "kernel_size": 1},
        "preprocessing": compose(
            {"_target_": "LoadImaged", "keys": "@image_key"}, {"_target_": "EnsureTyped", "keys": "@image_key"}
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": compose(
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        ),
    }
    segments = "".join(SEGMENT.replace("VALUE", str(place)) for place in (1, 2, 3, 4))
    channels = "".join(CHANNEL.replace("NAME", name).replace("REGEX", REGEX[name]) for name in NAMES)
    about = {"network_data_format": {"inputs": {"image": {"num_channels": 4}}}}
    return write_bundle(folder, config, {"weight": weight, "bias": bias}, card + segments + channels, metadata=about)


def write_study(folder: Path, names: tuple[str, ...]) -> str:
    """Write one folder for each series of a study, and return the study's UID."""
    for number, name in enumerate(names, start=1):
        values = np.zeros((6, 20, 18), np.int16)
        values[2, 3 * BRIGHT[name], 4 : 4 + BRIGHT[name]] = 1000
        series = classic(values, affine(), modality="MR", name=name, SeriesNumber=number)
        for image in series:
            image.SeriesDescription = DESCRIPTIONS[name]
            image.BodyPartExamined = "BRAIN"
        stored(series, folder / str(number))
    return str(series[0].StudyInstanceUID)


def send(node: Node, folder: Path, names: tuple[str, ...]) -> str:
    study = write_study(folder, names)
    for number in range(1, len(names) + 1):
        assert dcmtk.storescu(node.dicom_port, folder / str(number)).returncode == 0
    return study


def finished(node: Node, study: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def done() -> bool:
        with node.api() as api:
            answer = api.get(f"/api/studies/{study}")
        found.update(answer.json() if answer.status_code == 200 else {})
        return bool(found) and found["study"]["state"] in {"REPORTED", "NOT_ANALYSED", "FAILED"}

    wait_until(done, 120, f"study {study} to be finished", 0.25)
    return found


@pytest.fixture
def not_started(node: Callable[..., Node], tmp_path: Path) -> Node:
    model = four_channels(tmp_path / "models" / "four")
    return node(
        start=False,
        inference={"require_activation": "none", "models_dirs": [str(model.parent)]},
        route=[{"name": "brain", "model": "four", "quiet_period_s": 2.0, "when": {"modality": "MR"}}],
    )


@pytest.fixture
def reads_four(not_started: Node) -> Node:
    assert main(["models", "accept", "four", "--config", str(not_started.config)]) == 0
    not_started.start()
    return not_started


def test_each_series_goes_into_its_channel_whatever_the_order_of_arrival(reads_four: Node, tmp_path: Path) -> None:
    study = finished(reads_four, send(reads_four, tmp_path / "sent", ("FLAIR", "T1", "T1 with contrast", "T2")))

    assert study["study"]["state"] == "REPORTED", study
    volumes_ml = {
        finding["key"]: finding["measurements"][0]["value"]
        for result in study["results"]
        for finding in result["summary"]["findings"]
    }
    assert volumes_ml == pytest.approx(EXPECTED_ML, rel=0.05)


def test_a_study_that_lacks_one_of_the_series_is_told_as_not_analysed(reads_four: Node, tmp_path: Path) -> None:
    study = finished(reads_four, send(reads_four, tmp_path / "sent", ("FLAIR", "T1", "T1 with contrast")))

    assert study["study"]["state"] == "NOT_ANALYSED", study
    (job,) = study["jobs"]
    assert job["reason"] == "CHANNELS_MISSING"
    assert "reads T1 with contrast, T1, T2, FLAIR; the study has 3" in job["message"]


# --- without a node ----------------------------------------------------------------------------------------------


def test_a_run_without_a_node_gives_each_series_its_channel_too(tmp_path: Path) -> None:
    write_study(tmp_path / "sent", ("FLAIR", "T1", "T1 with contrast", "T2"))

    (found,) = run(four_channels(tmp_path / "four"), [tmp_path / "sent"], tmp_path / "out").studies

    assert found.state is JobState.DONE, found
    assert isinstance(found.summary, AnalysisSummary)
    volumes_ml = {one.key: one.measurements[0].value for one in found.summary.findings}
    assert volumes_ml == pytest.approx(EXPECTED_ML, rel=0.05)


def test_a_series_that_the_card_takes_but_the_first_channel_does_not_is_given_to_no_channel(tmp_path: Path) -> None:
    """Were the diffusion taken for the T1 with contrast, the answer would be of other images than it says."""
    write_study(tmp_path / "sent", ("FLAIR", "T1", "T2", "DWI"))
    takes_any_mr = 'rank = ["-series_number"]\n' + CARD.replace('series_description = { regex = "[+]c" }', "")

    (found,) = run(four_channels(tmp_path / "four", takes_any_mr), [tmp_path / "sent"], tmp_path / "out").studies

    assert (found.state, found.reason) == (JobState.NOT_ANALYSABLE, "CHANNELS_MISSING")


# --- what the objects say they were made from --------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult, dict[str, set[str]]]:
    """Return the folder of the results, the result, and the images of each series that was sent."""
    folder = tmp_path_factory.mktemp("answered")
    names = ("FLAIR", "T1", "DWI", "T1 with contrast", "T2")
    write_study(folder / "sent", names)
    (found,) = run(four_channels(folder / "four"), [folder / "sent"], folder / "out").studies
    images = {
        name: {str(dcmread(path).SOPInstanceUID) for path in (folder / "sent" / str(number)).iterdir()}
        for number, name in enumerate(names, start=1)
    }
    return folder / "out" / found.folder, found, images


def referenced(items: Iterable[Dataset]) -> Iterator[str]:
    for item in items:
        yield from (str(one.ReferencedSOPInstanceUID) for one in item.get("ReferencedSOPSequence") or ())
        yield from referenced(item.get("ContentSequence") or ())


def test_the_report_lists_the_images_of_every_channel_and_of_no_other_series(
    answered: tuple[Path, StudyResult, dict[str, set[str]]],
) -> None:
    folder, result, images = answered
    (name,) = [one.name for one in result.artifacts if str(one.kind) == "SR"]
    report = dcmread(folder / name)
    (library,) = [one for one in report.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == "111028"]
    groups = [set(referenced([group])) for group in library.ContentSequence]

    assert groups[0] == images["T1 with contrast"], "masks lie on the first"
    assert sorted(map(sorted, groups[1:4])) == sorted(sorted(images[name]) for name in ("T1", "T2", "FLAIR"))
    evidence = {
        str(one.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert set().union(*(images[name] for name in NAMES)) <= evidence
    assert not images["DWI"] & evidence


def test_page_bundle_and_summary_name_every_channel_and_masks_lie_on_the_first(
    answered: tuple[Path, StudyResult, dict[str, set[str]]],
) -> None:
    folder, result, images = answered
    first, further = images["T1 with contrast"], set().union(*(images[name] for name in ("T1", "T2", "FLAIR")))
    objects = {str(one.kind): folder / one.name for one in result.artifacts}

    page = dcmread(objects["PDF"]).SourceInstanceSequence
    assert {str(one.ReferencedSOPInstanceUID) for one in page[:4]} <= first | further
    assert all(images[name] & {str(one.ReferencedSOPInstanceUID) for one in page} for name in NAMES)
    bundle = json.loads(objects["FHIR"].read_text(encoding="utf-8"))
    (study,) = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "ImagingStudy"]
    told = {instance["uid"] for series in study["series"] for instance in series["instance"]}
    assert first | further <= told
    assert not images["DWI"] & told
    assert set(result.summary.source_sop_instance_uids) == first
    assert set(result.summary.further_source_sop_instance_uids) == further
    assert {
        str(source.ReferencedSOPInstanceUID)
        for frame in dcmread(objects["SEG"]).PerFrameFunctionalGroupsSequence
        for derived in frame.DerivationImageSequence
        for source in derived.SourceImageSequence
    } <= first
    for path in objects.values():
        if path.suffix == ".dcm":
            assert_valid_dicom(path)


# --- rules explain -----------------------------------------------------------------------------------------------


def explained(node: Node, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what the command tells of each channel of the one route, on one study in files."""
    assert main(["rules", "explain", str(folder), "--config", str(node.config), "--json"]) == 0
    (study,) = json.loads(capsys.readouterr().out)
    (route,) = study["routes"]
    channels: list[dict[str, Any]] = route["channels"]
    return channels


def series_uids(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {
        name: str(dcmread(next((folder / str(number)).iterdir())).SeriesInstanceUID)
        for number, name in enumerate(names, start=1)
    }


def test_rules_explain_names_the_series_of_every_channel(
    not_started: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("FLAIR", "DWI", "T1", "T1 with contrast", "T2")
    write_study(tmp_path / "sent", names)
    uids = series_uids(tmp_path / "sent", names)

    channels = explained(not_started, tmp_path / "sent", capsys)

    assert {one["key"]: one["chosen"] for one in channels} == {name: uids[name] for name in NAMES}
    assert channels[0]["reason"] == f"Series {uids['T1 with contrast']} is the one that the route chose."
    assert channels[3]["reason"].startswith(f"Series {uids['FLAIR']} (6 instances) chosen of 1 that fit")


def test_rules_explain_says_why_a_channel_gets_no_series(
    not_started: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("FLAIR", "T1", "T1 with contrast")
    write_study(tmp_path / "sent", names)

    channels = explained(not_started, tmp_path / "sent", capsys)

    (missing,) = [one for one in channels if one["chosen"] is None]
    assert missing["key"] == "T2"
    assert "No series is for this channel. Closest: series" in missing["reason"]
    assert "fails series_description matches /t2/ (is AX " in missing["reason"]

    assert main(["rules", "explain", str(tmp_path / "sent"), "--config", str(not_started.config)]) == 0
    shown = capsys.readouterr().out
    assert "The model reads these series together:" in shown
    assert any({"T2", "none"} <= set(line.split()) for line in shown.splitlines())


def test_rules_explain_says_that_the_route_has_chosen_nothing(
    not_started: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path / "sent", ("FLAIR", "T1", "T2"))

    channels = explained(not_started, tmp_path / "sent", capsys)

    assert (channels[0]["chosen"], channels[0]["reason"]) == (None, "The route has chosen no series.")
    assert all(one["chosen"] for one in channels[1:])


def test_one_series_that_meets_two_channels_is_told_as_such(
    node: Callable[..., Node], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = four_channels(tmp_path / "models" / "four") / "model_card.toml"
    card.write_text(card.read_text(encoding="utf-8").replace('regex = "t1$"', 'regex = "t2"'), encoding="utf-8")
    one = node(
        start=False,
        inference={"require_activation": "none", "models_dirs": [str(tmp_path / "models")]},
        route=[{"name": "brain", "model": "four", "when": {"modality": "MR"}}],
    )
    write_study(tmp_path / "sent", ("FLAIR", "T1 with contrast", "T2"))

    channels = explained(one, tmp_path / "sent", capsys)

    assert channels[1]["chosen"] == channels[2]["chosen"]
    assert channels[2]["reason"].endswith("Channel T1 has it, too, and one series cannot be both.")
