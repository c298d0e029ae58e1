"""What a run on files gives back, as types: the same findings, measurements and provenance as the API tells."""

from __future__ import annotations

from pydantic import BaseModel, Field

from dicom_node.api.results import AnalysisSummary, DeclinedSummary
from dicom_node.core.entities import ArtifactKind, JobState


class FileOfResult(BaseModel):
    """One object that shows the result. `preview` is its picture as PNG; "" where it has none."""

    name: str = Field(description="Name of the file beside `result.json`.")
    kind: ArtifactKind
    media_type: str
    uid: str
    description: str
    sop_class_uid: str = ""
    series_instance_uid: str = ""
    sha256: str
    size_bytes: int
    preview: str = ""


class MaskFile(BaseModel):
    """One segment as NIfTI-1: uint8, 1 inside, on the whole grid of the images, affine in RAS+ mm."""

    name: str
    segment_number: int
    label: str
    voxels: int = Field(description="How many are inside.")
    shape_xyz: tuple[int, int, int]


class StudyResult(BaseModel):
    """What became of one study; `result.json` holds it. AI output, not verified.

    `state` is DONE, PARTIAL, NOT_ANALYSABLE, or FAILED: then there is no summary and no file, or only why.
    """

    study_instance_uid: str
    series_instance_uid: str = Field("", description="The series that the model was given; empty: none fits.")
    model: str
    state: JobState
    reason: str = Field("", description="Why nothing was analysed: a code of the table of reasons.")
    message: str = Field("", description="The same as a sentence.")
    job_key: str = Field("", description="What UIDs come from: digests of images, model and settings.")
    folder: str = Field("", description="Where its files are, below the folder of the run; empty: nowhere.")
    series_choice: str = Field("", description="Why this series, or none.")
    summary: AnalysisSummary | DeclinedSummary | None = None
    artifacts: list[FileOfResult] = Field(default_factory=list)
    masks: list[MaskFile] = Field(default_factory=list)
    remarks: list[str] = Field(default_factory=list, description="What was wanted and could not be made.")

    @property
    def is_analysed(self) -> bool:
        """Whether the model answered."""
        return self.state in {JobState.DONE, JobState.PARTIAL}


class PassedFile(BaseModel):
    """A file that was not used: `refused` where it is DICOM and cannot be read or taken."""

    name: str
    refused: bool
    why: str


class RunReport(BaseModel):
    """What became of everything that was named."""

    studies: list[StudyResult]
    passed_over: list[PassedFile] = Field(default_factory=list, description="Files that were not used, and why.")

    @property
    def exit_status(self) -> int:
        """0: every study was analysed; 1: an analysis failed; 3: some were not analysable, or a file was refused."""
        if any(one.state is JobState.FAILED for one in self.studies):
            return 1
        is_whole = all(one.is_analysed for one in self.studies) and not any(one.refused for one in self.passed_over)
        return 0 if is_whole else 3
