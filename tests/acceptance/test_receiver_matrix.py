"""Every kind of receiver, everything that becomes of a result, everything that goes wrong on the way: one live result.

Each study goes to a receiver of every kind at once, so that one fault, and one kill of the node, is a fault at each of
them. A campaign has every event meet every fault; a sample has every event, and every fault once.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import func, select

from dicom_node.index.database import Database
from dicom_node.index.tables import artifacts, deliveries, notifications, results
from tests.acceptance.counting_model import CARD, FEWEST_IMAGES
from tests.peers.dcmtk import dcmsend
from tests.peers.line import Break
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.receivers import KINDS, SYSTEM, Folder, Receiver, SentStudy, Shown, running_receivers
from tests.support.campaign import amount
from tests.support.hl7.messages import merge
from tests.support.hl7.peers import code, send
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(900, campaign=7200))]

IMAGES = FEWEST_IMAGES + 1
PATIENCE_S = 120.0
#: So long the node waits for an answer: short, for there is a fault that is silence.
TIMEOUT_S = 4.0
Truth = Sequence[Shown]


# --- what becomes of a result ------------------------------------------------------------------------------------


class Case:
    """One study and its images, on its way through one cell of the matrix."""

    def __init__(self, place: int) -> None:
        self.images: list[Dataset] = small_chest_ct(f"cell {place}")[0][: IMAGES + 1]
        number = f"P{place:05d}"
        for image in self.images:
            image.PatientID, image.PatientName, image.PatientBirthDate = number, "MUSTER^ERIKA", "19600102"
            image.PatientSex = "F"
        self.study = SentStudy(str(self.images[0].StudyInstanceUID), number, f"Q{number[1:]}")

    def shows(self, images: int, *, corrected: bool = False) -> Truth:
        return [Shown(self.study.numbers[corrected], images)]


@dataclass(frozen=True)
class Event:
    """`first` images are sent and told before; then `happens`, and the `truth` is another."""

    name: str
    first: int
    happens: Callable[[Hospital, Case], None]
    truth: Callable[[Case], Truth]

    def __str__(self) -> str:
        return self.name


def images_come(hospital: Hospital, case: Case, begin: int = 0, end: int = IMAGES) -> None:
    hospital.store(case.images[begin:end])


def an_image_comes_late(hospital: Hospital, case: Case) -> None:
    images_come(hospital, case, IMAGES, IMAGES + 1)


def it_is_withdrawn(hospital: Hospital, case: Case) -> None:
    with hospital.node.api() as api:
        why = {"reason": "The images are of another patient."}
        api.post(f"/api/studies/{case.study.uid}/withdraw", json=why).raise_for_status()


def patients_are_merged(hospital: Hospital, case: Case) -> None:
    prior, surviving = (f"{number}^^^HOSP" for number in case.study.numbers)
    told = merge(prior, surviving, name="Muster^Erika", born="19600102", sex="F")
    assert code(send(hospital.node.ports["hl7"], told)) == "AA"


def images_are_corrected(hospital: Hospital, case: Case) -> None:
    images = copy.deepcopy(case.images[:IMAGES])
    for image in images:
        image.PatientID = case.study.corrected
    hospital.store(images)


EVENTS = (
    Event("first result", 0, images_come, lambda case: case.shows(IMAGES)),
    Event("late image", IMAGES, an_image_comes_late, lambda case: case.shows(IMAGES + 1)),
    Event("withdrawal", IMAGES, it_is_withdrawn, lambda _: []),
    Event("merged patients", IMAGES, patients_are_merged, lambda case: case.shows(IMAGES, corrected=True)),
    Event("corrected images", IMAGES, images_are_corrected, lambda case: case.shows(IMAGES, corrected=True)),
    Event("not analysed", 0, partial(images_come, end=FEWEST_IMAGES - 1), lambda case: case.shows(0)),
)  # fmt: skip


# --- what goes wrong on the way ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """`at` is where the line breaks, if it does; `kills`: the node is killed then; `parks`: a person has to look."""

    name: str
    at: Break | None = None
    kills: bool = False
    refuses: bool = False
    parks: bool = False

    def __str__(self) -> str:
        return self.name


NOTHING = Fault("nothing")
FAULTS = (
    NOTHING,
    Fault("refused for good", refuses=True, parks=True),
    Fault("refused for now", refuses=True),
    Fault("silence", at=Break.UNHEARD),
    Fault("hung up after receipt", at=Break.DROPPED),
    Fault("killed before the first byte", at=Break.BEFORE, kills=True),
    Fault("killed in the middle", at=Break.TORN, kills=True),
    Fault("killed while the answer is awaited", at=Break.UNHEARD, kills=True),
    Fault("killed before the answer is written down", at=Break.ANSWERED, kills=True),
)


# --- the hospital ------------------------------------------------------------------------------------------------


class Hospital:
    """A node that sends every result to a receiver of every kind."""

    def __init__(self, folder: Path, receivers: dict[str, Receiver]) -> None:
        self.folder, self.receivers = folder, receivers
        model = folder / "models" / "counting"
        model.mkdir(parents=True)
        (model / "model_card.toml").write_text(CARD, encoding="utf-8")
        self.node = Node(folder / "node", {
            "inference": {"models_dirs": [str(model.parent)], "require_activation": "none"},
            "fhir": {"patient_system": SYSTEM},
            "hl7": {"port": 0, "patient_authority": "HOSP"},
            "delivery": {"timeout_s": TIMEOUT_S},
            "destination": [{"name": name, **one.destination()} for name, one in receivers.items()],
            "route": [{"name": "ct", "model": "counting", "quiet_period_s": 0.5, "when": {"modality": "CT"}}],
        })  # fmt: skip
        accept = [sys.executable, "-m", "dicom_node", "models", "accept", "counting", "--config", str(self.node.config)]
        subprocess.run(accept, cwd=REPOSITORY, check=True, capture_output=True)
        self.node.start()
        self.database = Database(f"sqlite:///{self.node.data_dir / 'node.sqlite'}")

    def store(self, images: Sequence[Dataset]) -> None:
        """Send images as a modality does."""
        folder = self.folder / "sent" / str(len(list(self.folder.glob("sent/*"))))
        folder.mkdir(parents=True)
        for image in images:
            image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
        sent = dcmsend(self.node.dicom_port, folder)
        assert sent.returncode == 0, sent.stdout[-400:]

    def begin(self, cases: dict[Case, Event]) -> None:
        """Have every receiver show the first result of each study that has one before its event."""
        for case, event in cases.items():
            for receiver in self.receivers.values():
                receiver.admit(case.study)
            if event.first:
                images_come(self, case, end=event.first)
        for case, event in cases.items():
            truth = case.shows(event.first) if event.first else []
            self.wait_for(case, truth)
            for name, receiver in self.receivers.items():
                assert receiver.shown(case.study) == self.expected(name, truth), f"{name} before {event}"

    def wait_for(self, case: Case, truth: Truth) -> None:
        """Wait until every receiver shows the truth and nothing more is owed; one that never does fails in its cell."""
        deadline = time.monotonic() + PATIENCE_S
        for name, receiver in self.receivers.items():
            while receiver.shown(case.study) != self.expected(name, truth) and time.monotonic() < deadline:
                time.sleep(0.1)
        while self.owed(case.study) and time.monotonic() < deadline:
            time.sleep(0.1)

    def expected(self, receiver: str, truth: Truth) -> list[Shown]:
        names = self.receivers[receiver].names_patients
        return sorted(one if names else Shown("", one.images) for one in truth)

    def owed(self, study: SentStudy, *states: str, destination: str = "") -> int:
        """Count what is owed of a study in these states, by default what waits."""
        of_study = select(func.count()).select_from(deliveries).join(results, results.c.job_key == deliveries.c.job_key)
        told = select(func.count()).select_from(notifications)
        counted = 0
        with self.database.read() as connection:
            for query, table, uid in (
                (of_study, deliveries, results.c.study_instance_uid),
                (told, notifications, notifications.c.study_instance_uid),
            ):
                mine = query.where(uid == study.uid, table.c.state.in_(states or ("PENDING",)))
                mine = mine.where(table.c.destination == destination) if destination else mine
                counted += connection.execute(mine).scalar_one()
        return counted

    # --- one fault at all receivers

    def play(self, fault: Fault, cases: dict[Case, Event]) -> None:
        """Let these things happen while this goes wrong, and all be well again."""
        broken = self.broken_by(fault)
        for receiver in broken:
            receiver.refuse(for_good=fault.parks) if fault.refuses or fault.at is None else receiver.breaks(fault.at)
        for case, event in cases.items():
            event.happens(self, case)
        if fault.kills:
            self.kill(fault, broken)
        elif fault.refuses:
            self.wait_until_refused(fault, broken, cases)
        else:
            for receiver in broken:
                receiver.wait_until_broken()
        for receiver in self.receivers.values():
            receiver.mend()
        if fault.kills:
            self.node.start()
        if fault.parks:
            taken = partial(self.is_taken_after_retry, broken, [case.study for case in cases])
            wait_until(taken, PATIENCE_S, "what was parked to be taken", 0.5)
        for case, event in cases.items():
            self.wait_for(case, event.truth(case))

    def broken_by(self, fault: Fault) -> list[Receiver]:
        """Return whom the fault is about: a folder neither is silent nor refuses for good."""
        if fault is NOTHING:
            return []
        no_folder = fault.parks or not (fault.kills or fault.refuses)
        return [one for one in self.receivers.values() if not (no_folder and isinstance(one, Folder))]

    def wait_until_refused(self, fault: Fault, broken: Sequence[Receiver], cases: dict[Case, Event]) -> None:
        for one in broken:
            if fault.parks:
                parked = lambda one=one: any(self.owed(case.study, "PARKED", destination=one.name) for case in cases)  # noqa: E731
                wait_until(parked, PATIENCE_S, f"{one.name} to have something parked")
            elif isinstance(one, Folder):
                self.wait_until_put_off(one)
            else:
                wait_until(lambda one=one: one.refused, PATIENCE_S, f"{one.name} to refuse something")  # type: ignore[misc]

    def wait_until_put_off(self, folder: Folder) -> None:
        def put_off() -> bool:
            with self.database.read() as connection:
                waiting = (
                    deliveries.c.destination == folder.name,
                    deliveries.c.state == "PENDING",
                    deliveries.c.note != "",
                )
                return connection.execute(select(deliveries.c.id).where(*waiting)).first() is not None

        wait_until(put_off, PATIENCE_S, "the folder to be missed")

    def is_taken_after_retry(self, broken: Sequence[Receiver], studies: Sequence[SentStudy]) -> bool:
        """Have sent again what is parked; more may be, of what was refused a moment before all was well."""
        parked = [one for one in broken if any(self.owed(study, "PARKED", destination=one.name) for study in studies)]
        with self.node.api() as api:
            for one in parked:
                api.post(f"/api/destinations/{one.name}/retry").raise_for_status()
        return not any(self.owed(study, "PENDING", "PARKED") for study in studies)

    # --- the death of the node

    def kill(self, fault: Fault, broken: Sequence[Receiver]) -> None:
        """Kill the node when the line to every receiver is where the fault says."""
        (folder,) = (one for one in broken if isinstance(one, Folder))
        called = [one for one in broken if one is not folder]
        for one in called:
            one.wait_until_broken()
        self.wait_until_put_off(folder)
        if fault.at is Break.BEFORE:
            self.node.kill9()
            return
        known = folder.names()
        folder.mend()
        wait_until(lambda: bool(folder.names() - known), PATIENCE_S, "something in the folder", 0.0)
        if fault.at is Break.ANSWERED:
            self.let_answers_through(called, folder)
        else:
            self.node.kill9()

    def let_answers_through(self, called: Sequence[Receiver], folder: Folder) -> None:
        """Let the node hear every answer and write down none, since the test holds the database; then kill it.

        Where nothing was on its way to the folder just then, the node goes on for a moment and is held again.
        """

        def is_killed() -> bool:
            with self.database.write() as connection:
                kept = select(artifacts.c.uid).join(deliveries, deliveries.c.artifact_uid == artifacts.c.uid)
                kept = kept.where(deliveries.c.destination == folder.name, deliveries.c.state == "SENT")
                noted = set(connection.execute(kept).scalars())
                try:
                    wait_until(lambda: bool(folder.objects() - noted), 3, "a file that is not written down", 0.0)
                except TimeoutError:
                    return False
                for one in called:
                    one.let_answer_through()
                self.node.kill9()
                return True

        wait_until(is_killed, PATIENCE_S, "the node to be killed with a file that is not written down", 0.05)


# --- the matrix --------------------------------------------------------------------------------------------------


def sampled() -> list[tuple[Fault, Event]]:
    """Return every fault with one event, and every event once; the first result with no fault at all."""
    turns = cycle(EVENTS[1:])
    return [(NOTHING, EVENTS[0]), *((fault, next(turns)) for fault in FAULTS if fault is not NOTHING)]


def everything() -> list[tuple[Fault, Event]]:
    return [(fault, event) for fault in FAULTS for event in EVENTS]


ROUNDS = amount(sampled, campaign=everything)()


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with ExitStack() as stack:
        receivers = stack.enter_context(running_receivers(folder))
        one = Hospital(folder, receivers)
        stack.callback(one.node.kill9)
        stack.callback(one.database.close)
        yield one


@pytest.fixture(scope="module")
def played(hospital: Hospital) -> Callable[[Fault, Event], Case]:
    """Return the study of a cell; the first cell of a round plays it, for all receivers."""
    cases = {one: Case(place) for place, one in enumerate(ROUNDS)}
    over: set[tuple[Fault, Event]] = set()
    hospital.begin({case: event for (_, event), case in cases.items()})

    def play(fault: Fault, event: Event) -> Case:
        mine = [(fault, one) for of, one in ROUNDS if of is fault] if fault is NOTHING else [(fault, event)]
        if (fault, event) not in over:
            over.update(mine)
            hospital.play(fault, {cases[one]: one[1] for one in mine})
        return cases[fault, event]

    return play


@pytest.mark.parametrize("receiver", [kind.name for kind in KINDS])
@pytest.mark.parametrize(("fault", "event"), ROUNDS, ids=str)
def test_a_receiver_shows_the_last_truth_once_whatever_went_wrong(
    hospital: Hospital, played: Callable[[Fault, Event], Case], receiver: str, fault: Fault, event: Event
) -> None:
    case = played(fault, event)
    assert hospital.receivers[receiver].shown(case.study) == hospital.expected(receiver, event.truth(case))
