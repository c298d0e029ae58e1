"""The real worker's work, except that some studies cost it its worker, as a hostile image or a huge one would."""

from __future__ import annotations

import os

from dicom_node.core.uids import derived_uid
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.jobs.worker_process import perform as really_perform

POISON_STUDY = derived_uid("test-poison-study")
HUNGRY_STUDY = derived_uid("test-hungry-study")
#: Far beyond any limit that a test sets.
_TOO_MUCH_BYTES = 1 << 40


def perform(task: Task) -> Performed:
    """Analyse, unless the study is one of those. Saying that it was not analysed reads no pixels and works."""
    if task.study_instance_uid == POISON_STUDY and task.declined is None:
        os._exit(11)
    if task.study_instance_uid == HUNGRY_STUDY and task.declined is None:
        bytearray(_TOO_MUCH_BYTES)
    return really_perform(task)
