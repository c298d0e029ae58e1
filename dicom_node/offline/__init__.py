"""A model run on files, without a node: no database, no socket; `run` is all that a caller needs."""

from __future__ import annotations

from dicom_node.offline.results import FileOfResult, MaskFile, RunReport, StudyResult
from dicom_node.offline.run import RunOptions, run

__all__ = ["FileOfResult", "MaskFile", "RunOptions", "RunReport", "StudyResult", "run"]
