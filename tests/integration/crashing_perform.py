"""The real worker's work, except that one study kills its worker, as a hostile image would."""

from __future__ import annotations

import os

from dicom_node.core.uids import derived_uid
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.jobs.worker_process import perform as really_perform

POISON_STUDY = derived_uid("test-poison-study")


def perform(task: Task) -> Performed:
    """Analyse; die while analysing the poison study. Saying that it was not analysed reads no pixels and works."""
    if task.study_instance_uid == POISON_STUDY and task.declined is None:
        os._exit(11)
    return really_perform(task)
