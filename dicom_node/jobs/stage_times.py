"""How long an attempt at a job is in each of its stages, for metrics and traces; nothing is decided by it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Self

from dicom_node.core.entities import JobStage
from dicom_node.core.metrics.spans import SPANS, Span, job_key_of, study_key
from dicom_node.core.metrics.table import JOB_SECONDS
from dicom_node.core.metrics.tally import TALLY
from dicom_node.index.jobs import ClaimedJob


class StageTimes:
    """How long an attempt is in each of its stages: counted when the next one begins, traced when all is over."""

    def __init__(self, job: ClaimedJob, key: str) -> None:
        self._job, self._key = job, key
        self._stage, self._began = JobStage.PLANNING, time.monotonic()
        self._begins = [(JobStage.PLANNING, time.time())]

    def __enter__(self) -> Self:
        return self

    def begin(self, stage: JobStage) -> None:
        """Enter a stage."""
        self._count()
        self._stage, self._began = stage, time.monotonic()
        self._begins.append((stage, time.time()))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._count()
        if SPANS.are_heard:
            self._tell(is_failure=kind is not None)

    def _count(self) -> None:
        TALLY.observe(JOB_SECONDS, time.monotonic() - self._began, stage=self._stage, model=self._job.model)

    def _tell(self, *, is_failure: bool) -> None:
        """Tell of the attempt and its stages; deliveries of its result belong to the one that has made it."""
        job, ends = self._job, [*(at for _, at in self._begins[1:]), time.time()]
        whole = Span(
            study_instance_uid=job.study_instance_uid, name="job", parent=study_key(job.revision),
            began_s=self._begins[0][1], ended_s=ends[-1], is_failure=is_failure,
            attributes={"model": job.model, "route": job.route, "attempt": job.attempt, "job": job.id},
        )  # fmt: skip
        whole = whole if is_failure else replace(whole, key=job_key_of(self._key))
        SPANS.tell(whole)
        for (stage, began_s), ended_s in zip(self._begins, ends, strict=True):
            SPANS.tell(Span(study_instance_uid=job.study_instance_uid, name=stage, parent=whole.key, began_s=began_s,
                            ended_s=ended_s, attributes={"model": job.model}))  # fmt: skip
