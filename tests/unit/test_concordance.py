"""How often models and reports say the same, by numbers that were worked out elsewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dicom_node.core.assessment.concordance import (
    LEAST_PAIRS,
    ComparedFinding,
    ConcordanceGroup,
    ConcordanceVerdict,
    concordance_by,
    kappa_of,
)
from dicom_node.core.assessment.report_reading import ReportedPresence, said_by_model
from dicom_node.core.codes import PERCENT, table, term_code
from dicom_node.core.entities import Code, Finding, Measurement, Presence

LUNG = Code("39607008", "SCT", "Lung")
ONE = ComparedFinding(
    study_instance_uid="1.2.3", job_key="k", model="cxr-pneumonia", version="1", finding="Pneumonia",
    made_at=datetime(2026, 11, 20, tzinfo=UTC), model_says=Presence.PRESENT, report_says=ReportedPresence.PRESENT,
    scanner="DX-D 600",
)  # fmt: skip


def several(number: int, model: Presence, report: ReportedPresence, **more: str) -> list[ComparedFinding]:
    return [replace(ONE, model_says=model, report_says=report, **more)] * number


@pytest.mark.parametrize(
    ("model", "report", "verdict"),
    [
        (Presence.PRESENT, ReportedPresence.PRESENT, ConcordanceVerdict.AGREE),
        (Presence.ABSENT, ReportedPresence.ABSENT, ConcordanceVerdict.AGREE),
        (Presence.ABSENT, ReportedPresence.SILENT, ConcordanceVerdict.AGREE),
        (Presence.PRESENT, ReportedPresence.ABSENT, ConcordanceVerdict.MODEL_ONLY),
        (Presence.PRESENT, ReportedPresence.SILENT, ConcordanceVerdict.MODEL_ONLY),
        (Presence.ABSENT, ReportedPresence.PRESENT, ConcordanceVerdict.REPORT_ONLY),
        (Presence.PRESENT, ReportedPresence.UNCERTAIN, ConcordanceVerdict.UNSURE),
        (Presence.UNDETERMINED, ReportedPresence.PRESENT, ConcordanceVerdict.UNSURE),
    ],
)
def test_a_verdict_is_what_both_make_of_it(
    model: Presence, report: ReportedPresence, verdict: ConcordanceVerdict
) -> None:
    assert replace(ONE, model_says=model, report_says=report).verdict is verdict


def test_kappa_and_its_bounds_are_those_of_a_published_formula() -> None:
    # 20, 5, 10, 15: kappa 0.40, standard error 0.1270 by Fleiss, Cohen and Everitt: (0.10972 + 0.10188 - 0.01) / 12.5
    kappa, why = kappa_of(20, 5, 10, 15)
    assert kappa is not None
    assert not why
    assert kappa.value == pytest.approx(0.4)
    assert (kappa.high - kappa.value) / 1.96 == pytest.approx(0.127, abs=1e-4)


def test_kappa_is_not_told_of_few_and_not_where_everybody_says_the_same() -> None:
    assert kappa_of(LEAST_PAIRS - 1, 0, 0, 0)[0] is None
    assert kappa_of(0, 0, 0, 100) == (None, "All of them say the same of every study: chance alone would.")


def test_kappa_of_those_who_always_agree_is_one_and_of_those_who_never_do_is_not_above_zero() -> None:
    whole, _ = kappa_of(10, 0, 0, 10)
    none, _ = kappa_of(0, 10, 10, 0)
    assert whole is not None
    assert none is not None
    assert (whole.value, whole.low, whole.high) == (1.0, 1.0, 1.0)
    assert none.value == -1.0


def test_a_group_counts_each_way_of_differing_by_itself_and_the_unsure_belong_to_neither() -> None:
    found = [
        *several(3, Presence.PRESENT, ReportedPresence.PRESENT), *several(4, Presence.ABSENT, ReportedPresence.SILENT),
        *several(2, Presence.PRESENT, ReportedPresence.SILENT), *several(1, Presence.ABSENT, ReportedPresence.PRESENT),
        *several(5, Presence.PRESENT, ReportedPresence.UNCERTAIN),
    ]  # fmt: skip
    (line,) = concordance_by(found, [])
    counted = (line.compared, line.both_present, line.both_absent, line.model_only, line.report_only, line.unsure)
    assert counted == (15, 3, 4, 2, 1, 5)
    assert (line.silent, line.agree.count, line.agree.total) == (6, 7, 10)
    assert line.kappa is not None


def test_groups_are_told_apart_by_model_finding_and_scanner() -> None:
    found = [*several(1, Presence.PRESENT, ReportedPresence.PRESENT), replace(ONE, scanner="Ysio")]
    lines = concordance_by(found, [ConcordanceGroup.MODEL, ConcordanceGroup.SCANNER])
    assert [one.group[ConcordanceGroup.SCANNER] for one in lines] == ["DX-D 600", "Ysio"]


def test_what_a_model_says_is_found_by_its_code_whatever_it_calls_it() -> None:
    def called(key: str, code: Code, presence: Presence | None = Presence.ABSENT) -> Finding:
        return Finding(key=key, label=key, code=code, site=LUNG, presence=presence)

    findings = [
        called("p", table("findings")["pneumonia"].code), called("r", table("findings")["pneumonia"].equivalents[0]),
        called("n-left", term_code("findings", "nodule")),
        called("n-right", term_code("findings", "nodule"), Presence.PRESENT),
        called("u", term_code("findings", "unlike-normal"), Presence.PRESENT), called("x", Code("1", "99X", "Other")),
    ]  # fmt: skip
    said = {key: presence for key, (_, presence) in said_by_model(findings).items()}
    assert said == {
        "pneumonia": Presence.ABSENT, "lung-nodule": Presence.PRESENT, "abnormal-image": Presence.PRESENT
    }  # fmt: skip


@pytest.mark.parametrize(("percent", "presence"), [(4.9, Presence.ABSENT), (5.0, Presence.PRESENT)])
def test_a_model_that_only_measures_says_emphysema_from_a_published_share_on(
    percent: float, presence: Presence
) -> None:
    share = Measurement(term_code("measurements", "low-attenuation-area-950"), percent, PERCENT)
    lungs = Finding(key="both-lungs", label="Lungs", code=LUNG, site=LUNG, measurements=(share,))
    left = replace(lungs, key="left-lung", measurements=(replace(share, value=99.0),))
    (said,) = said_by_model([left, lungs]).items()
    assert (said[0], said[1][1]) == ("emphysema", presence)
