"""A folder in, all objects out: one model on every study among files, by the node's own checks, choice and worker.

What is made of a study appears in one step, whole or not at all. Copies of images lie in a folder of the run's own
beside the results, which only this user can read, and which goes with the run.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.config.settings import Settings
from dicom_node.core.entities import JobState, Study
from dicom_node.core.errors import Conflict, InferenceError, NotAnalysable, ReportInvalid, SettingsError, SourceDamaged
from dicom_node.core.received.grouping import studies_of
from dicom_node.inference.cards.card import ModelCard
from dicom_node.jobs.keeping import performed_by
from dicom_node.jobs.workers import Workers, WorkerSettings
from dicom_node.offline.planning import PlannedStudy, RunPlanner, chosen_model
from dicom_node.offline.results import RunReport, StudyResult
from dicom_node.offline.taking import require_images, take_files
from dicom_node.offline.writing import RESULT_NAME, about, write_study
from dicom_node.storage.folder import make_folder, room_in
from dicom_node.storage.spool import Spool

_CONTRADICTING = (
    "Two files have one SOP Instance UID and other content, and nothing says which one holds. Take one of them out."
)
#: What a model, or what it was made of, may do to one study; the others are answered all the same.
_COST_THE_STUDY = (InferenceError, ReportInvalid, SettingsError, SourceDamaged)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is made. `parameters` override those of the model's card; `started_at` stands in every object; `tell`
    hears each result as soon as it is there."""

    nifti: bool = False
    overwrite: bool = False
    parameters: Mapping[str, float] = field(default_factory=dict)
    started_at: datetime | None = None
    tell: Callable[[StudyResult], None] = lambda _: None


_PLAIN = RunOptions()


def run(
    model: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    options: RunOptions = _PLAIN,
    settings: Settings | None = None,
) -> RunReport:
    """Run one model on every study in files, folders and zip archives; write a folder for each study below `out`.

    `model` is the name of a model or its folder; `settings` are those of a node, by default as they come. What befalls
    one study is its result and keeps no other from its turn. Raises `NotFound`, `SettingsError` (nothing to analyse,
    `out` not writable), `Conflict` for results that are there already, and `ModelUnavailable`.

    A folder with one chest CT, and a folder that is made for its results:

    >>> report = run("ct-lung-density", [study], out, RunOptions(nifti=True))
    >>> [(str(one.state), one.summary.findings[0].label, len(one.masks)) for one in report.studies]
    [('DONE', 'Both lungs', 2)]
    """
    settings, out = settings or Settings(), Path(out).resolve()
    card = chosen_model(str(model), settings)
    card.effective_parameters(options.parameters)
    with _workplace(out) as place:
        spool = Spool(place / "spool")
        taken = take_files([Path(path) for path in paths], place, spool, settings)
        require_images(taken)
        planner = RunPlanner(card, settings, spool, options.started_at or datetime.now(UTC), options.parameters)
        studies = studies_of(taken.instances)
        _require_free(studies, out, options)
        runner = _Runner(planner, place, out, options)
        with closing(Workers(_worker_settings(card, settings, place))) as workers:
            results = [runner.answer(study, workers, taken.contradicting) for study in studies]
    return RunReport(studies=results, passed_over=taken.passed_over)


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Make the run's own folder below `out`, which may be made for it; neither stays without a result."""
    was_there = out.exists()
    make_folder(out)
    try:
        place = Path(tempfile.mkdtemp(dir=out, prefix=".running-"))
    except OSError as error:
        raise SettingsError(f"Nothing can be written into {out}: {error.strerror}. Name another folder.") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not was_there and not any(out.iterdir()):
            out.rmdir()


def _require_free(studies: Sequence[Study], out: Path, options: RunOptions) -> None:
    """Raise `Conflict` where a result would take the place of something that the run may not replace."""
    for target in (out / study.study_instance_uid for study in studies):
        if not target.exists():
            continue
        if not options.overwrite:
            raise Conflict(f"{target} is there already. Name another folder, or replace it by --overwrite.")
        if not (target / RESULT_NAME).is_file():
            raise Conflict(f"{target} is no result of a run, and is not replaced. Move it away.")


def _worker_settings(card: ModelCard, settings: Settings, place: Path) -> WorkerSettings:
    inference = settings.inference
    return WorkerSettings(
        device=inference.device,
        count=1,
        model_budget_mb=inference.model_budget_mb,
        memory_limit_mb=inference.memory_limit_mb,
        time_limit_s=inference.time_limit_s,
        confined=inference.confine != "off",
        folder=place / "workers",
        models_dirs=(card.folder, *settings.models_dirs),
    )


@dataclass(frozen=True, slots=True)
class _Runner:
    """Answers study by study."""

    planner: RunPlanner
    place: Path
    out: Path
    options: RunOptions

    def answer(self, study: Study, workers: Workers, contradicting: Set[str]) -> StudyResult:
        """Run the model on one study, put its folder in place, and tell of it."""
        result = self._answer(study, workers, contradicting)
        self.options.tell(result)
        return result

    def _answer(self, study: Study, workers: Workers, contradicting: Set[str]) -> StudyResult:
        work = Path(tempfile.mkdtemp(dir=self.place, prefix="study-"))
        (work / "result").mkdir(mode=0o700)
        planned = self.planner.plan(study, work / "made")
        planned.task.request.out_dir.mkdir(mode=0o700)
        try:
            if study.study_instance_uid in contradicting:
                raise InferenceError(_CONTRADICTING)
            performed = performed_by(workers, planned.task)
            with room_in(self.out):
                result = write_study(planned, performed, work / "result", nifti=self.options.nifti)
        except NotAnalysable as refusal:  # not even a refusal may be written: whose study is it?
            return _without_files(planned, JobState.NOT_ANALYSABLE, str(refusal), refusal.reason)
        except _COST_THE_STUDY as error:
            return _without_files(planned, JobState.FAILED, str(error), "ANALYSIS_FAILED")
        self._put(work, study.study_instance_uid)
        shutil.rmtree(work, ignore_errors=True)
        return result

    def _put(self, work: Path, name: str) -> None:
        """Put a finished folder in place, in one step; what it replaces is gone only then."""
        target, before = self.out / name, work / "before"
        if target.exists() and self.options.overwrite:
            target.rename(before)
        try:
            (work / "result").rename(target)
        except OSError as error:
            if before.exists():
                before.rename(target)
            raise SettingsError(f"{target} cannot be written: {error.strerror}. Look at the folder.") from error


def _without_files(planned: PlannedStudy, state: JobState, message: str, reason: str) -> StudyResult:
    study = planned.study.study_instance_uid
    _log.warning("study not analysed", extra={"study": study, "reason": reason, "why": message})
    return StudyResult(**about(planned), state=state, message=message, reason=reason)
