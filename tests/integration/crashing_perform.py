"""The real worker's work, except that one study kills its worker, as a hostile image would."""

from __future__ import annotations

import os

from dicom_node.core.uids import derived_uid
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.jobs.worker_process import perform as really_perform

POISON_STUDY = derived_uid("test-poison-study")


def perform(task: Task) -> Performed:
    """Analyse; die while analysing the poison study. Saying that it was not analysed reads no pixels and works."""
    study = POISON_STUDY in task.request.files[0].path.read_bytes()[:4096].decode("latin-1")
    if study and task.declined is None:
        os._exit(11)
    return really_perform(task)
