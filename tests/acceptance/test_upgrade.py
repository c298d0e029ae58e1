"""The present node on the data folders of released versions, as a kill left them: nothing lost, nothing done twice.

Each folder of ``tests/upgrades`` is one version, made by ``tools/keep_data_folder.py``. The node starts on it once, and
what it makes of it is looked at in sentences, of which the last ones change something.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing

import pydicom
import pytest

from tests.acceptance.upgraded import OVER, REPOSITORY, KeptNode, Upgrade, WebPeer, modality, uids_at
from tests.peers.dcmtk import running_storescp, storescu
from tests.peers.process import free_port, wait_until

pytestmark = pytest.mark.timeout(900)

UPGRADES = REPOSITORY / "tests" / "upgrades"
PORTS = ("MODALITY_PORT", "PACS_PORT", "PICKY_PORT", "ARCHIVE_PORT", "EHR_PORT", "SOURCE_PORT")
NOBODY = '{"resourceType": "Bundle", "type": "searchset", "total": 0}'
ASKS_FOR_ACTIVATION = {"DICOM_NODE__INFERENCE__REQUIRE_ACTIVATION": "added"}
SETTLED_S = 400.0


@pytest.fixture(scope="module", params=sorted(path.parent.name for path in UPGRADES.glob("*/manifest.json")))
def upgrade(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    """The node when it has nothing more to do on a folder of the past."""
    kept, folder = UPGRADES / request.param, tmp_path_factory.mktemp("upgrade")
    with tarfile.open(kept / "data.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    (folder / "watched").mkdir()
    ports = {name: free_port() for name in PORTS}
    places = {name: folder / name.lower() for name in ("DATA", "MODELS", "RESULTS", "WATCHED")}
    settings = (kept / "node.toml").read_text(encoding="utf-8")
    for name, value in (*places.items(), *ports.items()):
        settings = settings.replace(f"@{name}@", str(value))
    with ExitStack() as stack:
        pacs, picky = (
            # Else what is sent twice is one file.
            running_storescp(folder / aet, "--unique-filenames", port=ports[f"{aet}_PORT"], aet=aet)
            for aet in ("PACS", "PICKY")
        )
        one = Upgrade(
            node=KeptNode(folder, settings),
            facts=json.loads((kept / "manifest.json").read_text(encoding="utf-8")),
            pacs=stack.enter_context(pacs),
            picky=stack.enter_context(picky),
            archive=stack.enter_context(WebPeer("{}").listening(ports["ARCHIVE_PORT"])),
            ehr=stack.enter_context(WebPeer(NOBODY).listening(ports["EHR_PORT"])),
            outcomes=stack.enter_context(modality(ports["MODALITY_PORT"])),
        )
        stack.callback(one.node.kill9)
        one.node.start(one.node.environment)
        wait_until(one.has_settled, SETTLED_S, "the end of all that was left open", 0.5)
        yield one


def test_the_old_settings_are_taken_and_the_node_becomes_ready(upgrade: Upgrade) -> None:
    with upgrade.node.api() as api:
        assert api.get("/readyz").json() == {"status": "ready", "damaged_objects": 0, "clock_fault": ""}
        assert api.get("/api/status").json()["ae_title"] == "KEPTNODE"
    assert not [event for event in upgrade.node.events() if "traceback" in event]


def test_every_image_that_was_acknowledged_is_in_the_index_and_on_the_disk(upgrade: Upgrade) -> None:
    acknowledged = {uid for uids in upgrade.facts["acknowledged"].values() for uid in uids}
    assert acknowledged > set(upgrade.facts["only_in_journal"]) != set()
    with closing(sqlite3.connect(f"file:{upgrade.node.data_dir / 'node.sqlite'}?mode=ro", uri=True)) as index:
        assert acknowledged <= {uid for (uid,) in index.execute("SELECT sop_instance_uid FROM instances")}
    files = (upgrade.node.data_dir / "spool").rglob("*.dcm")
    assert acknowledged <= {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files}
    for name, study in upgrade.names.items():
        counted = sum(series["instances"] for series in upgrade.study(name)["series"])
        assert counted == len(upgrade.facts["acknowledged"][study]), name


def test_an_image_that_came_twice_with_different_pixels_is_still_told_of(upgrade: Upgrade) -> None:
    for kept in upgrade.facts["studies"]:
        series = upgrade.node.study(kept["study_instance_uid"])["series"]
        # Version 0.1.0 called them conflicts, and its manifest still does.
        assert sum(one["superseded"] for one in series) == kept.get("conflicts", kept.get("superseded"))
    assert sum(kept.get("conflicts", kept.get("superseded")) for kept in upgrade.facts["studies"]) > 0


def test_what_was_owed_arrives_exactly_once(upgrade: Upgrade) -> None:
    for destination, came in (("pacs", uids_at(upgrade.pacs)), ("archive", upgrade.archive.stored_uids())):
        owed = [one["artifact_uid"] for one in upgrade.kept(state="PENDING", destination=destination)]
        assert owed
        assert set(owed) <= set(came)
        assert set(Counter(came).values()) == {1}, destination
    arrived = {"SENT", "COMMITTED"}  # by now it may be proved
    assert {upgrade.now(one)["state"] for one in upgrade.kept(state="PENDING")} <= arrived


def test_what_was_sent_is_not_sent_again(upgrade: Upgrade) -> None:
    """The folder it went to was emptied since, as by the system behind it."""
    sent = upgrade.kept(state="SENT", destination="files")
    assert sent
    names = {path.name for path in (upgrade.node.folder / "results").iterdir()}
    assert not [one for one in sent if any(one["artifact_uid"] in name for name in names)]
    for one in sent:
        now = upgrade.now(one)
        assert (now["state"], now["attempts"]) == ("SENT", one["attempts"])


def test_no_study_that_had_come_to_its_end_is_analysed_again(upgrade: Upgrade) -> None:
    ended = [kept for kept in upgrade.facts["studies"] if kept["state"] in OVER]
    assert {kept["state"] for kept in ended} == OVER
    for kept in ended:
        uid = kept["study_instance_uid"]
        view = upgrade.node.study(uid)
        assert (view["study"]["state"], view["study"]["revision"]) == (kept["state"], kept["revision"])
        keys = Counter(one["job_key"] for one in upgrade.facts["results"] if one["study_instance_uid"] == uid)
        assert Counter(one["job_key"] for one in view["results"]) == keys
        jobs = [(job["route"], job["attempts"]) for job in view["jobs"]]
        assert Counter(jobs) == Counter(
            (job["route"], job["attempts"]) for job in upgrade.facts["jobs"] if job["study_instance_uid"] == uid
        )


def test_every_object_that_was_made_can_still_be_had(upgrade: Upgrade) -> None:
    with upgrade.node.api() as api:
        for delivery in upgrade.facts["deliveries"]:
            answer = api.get(f"/api/artifacts/{delivery['artifact_uid']}").raise_for_status()
            assert answer.content.startswith(b"{") or answer.content[128:132] == b"DICM"


@pytest.mark.parametrize("name", ["running", "queued", "receiving", "journalled"])
def test_an_analysis_that_was_running_or_waited_ends_with_one_result(upgrade: Upgrade, name: str) -> None:
    view = upgrade.study(name)
    assert view["study"]["state"] == "REPORTED", view["jobs"]
    assert [job["state"] for job in view["jobs"]] == ["DONE"]
    assert len(view["results"]) == 1


def test_a_model_in_python_that_was_written_as_its_time_documented_is_run(upgrade: Upgrade) -> None:
    """Its files are those that were accepted, so nobody could have changed an import for the new version."""
    view = upgrade.study("described")
    assert [(job["state"], job["message"]) for job in view["jobs"]] == [("DONE", "")]


def test_requests_for_commitment_are_answered_those_in_the_journal_too(upgrade: Upgrade) -> None:
    asked = upgrade.facts["transactions"]
    wait_until(lambda: set(upgrade.outcomes) >= set(asked), 60, "the outcomes")
    assert upgrade.outcomes == dict.fromkeys(asked, 1)


def test_a_retrieval_that_was_cut_off_is_taken_up(upgrade: Upgrade) -> None:
    with upgrade.node.api() as api:
        known = {one["id"]: one["study_instance_uid"] for one in api.get("/api/retrievals").json()}
    assert known == {one["id"]: one["study_instance_uid"] for one in upgrade.facts["retrievals"]} != {}


def test_accepted_models_are_still_accepted_and_withdrawn_ones_refused(upgrade: Upgrade) -> None:
    listed = standings(upgrade)
    decided = {one["model"]: one["kind"] for one in upgrade.facts["decisions"] if one["kind"] != "ACTIVATED"}
    assert {listed[name] for name, kind in decided.items() if kind == "ACCEPTED"} == {"LIVE"}
    assert {listed[name] for name, kind in decided.items() if kind == "WITHDRAWN"} == {"MODEL_NOT_ACCEPTED"}
    told = [(one["kind"], one["model"], one["digest"]) for one in upgrade.node.command("models", "decisions")]
    assert told[::-1] == [(one["kind"], one["model"], one["digest"]) for one in upgrade.facts["decisions"]]
    (points,) = upgrade.node.command("models", "verify", "site-score").values()
    assert all(point["ok"] for point in points)


def test_the_same_images_again_are_taken_and_change_nothing(upgrade: Upgrade) -> None:
    """The peer, the user and the title of the old settings hold, too."""
    before = upgrade.study("revised")
    files = (upgrade.node.data_dir / "spool").rglob("*.dcm")
    sent = [path for path in files if pydicom.dcmread(path).StudyInstanceUID == upgrade.names["revised"]]
    assert len(sent) == len(upgrade.facts["acknowledged"][upgrade.names["revised"]])
    user = ("-usr", "technician", "-pwd", "invented-passcode")
    told = storescu(upgrade.node.dicom_port, *sent, called="KEPTNODE", options=user)
    assert told.returncode == 0, told.stdout[-1000:]
    assert storescu(upgrade.node.dicom_port, *sent, called="KEPTNODE").returncode != 0
    upgrade.node.wait_until_settled()
    assert upgrade.study("revised") == before


def test_what_was_parked_stays_parked_until_the_operator_has_it_sent(upgrade: Upgrade) -> None:
    parked = upgrade.kept(state="PARKED")
    refused = {one["artifact_uid"] for one in parked if one["destination"] == "picky"}
    assert refused
    assert {upgrade.now(one)["state"] for one in parked} == {"PARKED"}
    assert not refused & set(uids_at(upgrade.picky))

    mine = [one for one in parked if one["study_instance_uid"] == upgrade.names["reported"]]
    asked = len(upgrade.ehr.bodies)
    upgrade.node.command("retry", upgrade.names["reported"])
    wait_until(lambda: all(upgrade.now(one)["attempts"] > one["attempts"] for one in mine), 120, "the next attempts")

    assert {(one["destination"], upgrade.now(one)["state"]) for one in mine} == {("picky", "SENT"), ("ehr", "PARKED")}
    again = {one["artifact_uid"] for one in mine if one["destination"] == "picky"}
    assert Counter(uids_at(upgrade.picky)) & Counter(again) == Counter(again)
    assert refused & set(uids_at(upgrade.picky)) == again
    assert set(Counter(uids_at(upgrade.picky)).values()) == {1}
    assert len(upgrade.ehr.bodies) > asked


def test_a_model_that_was_activated_can_be_activated_again_where_a_site_asks_for_it(upgrade: Upgrade) -> None:
    """An activation is for one machine and one code of the node; the acceptance outlives both."""
    accepted = {"LIVE", "MODEL_NOT_ACTIVATED"}
    assert {standings(upgrade, ASKS_FOR_ACTIVATION)[name] for name in ("site-score", "site-shadow")} <= accepted
    upgrade.node.command("models", "activate", "site-score", "--without-golden", environment=ASKS_FOR_ACTIVATION)
    assert standings(upgrade, ASKS_FOR_ACTIVATION)["site-score"] == "LIVE"


def standings(upgrade: Upgrade, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return where each model stands."""
    listed = upgrade.node.command("models", "list", environment=environment)
    return {one["name"]: one["standing"] for one in listed if one["verified"] == "yes"}
