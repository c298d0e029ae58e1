"""What reports are read to say: the measured sentences, whole reports, and texts that were made to cause trouble."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from benchmarks.report_reader import figures, sentences
from dicom_node.assist.texts.lexicon import finding_keys, rules_digest
from dicom_node.assist.texts.reader import MOST_CHARACTERS, TextToRead, read
from dicom_node.core.assessment.report_reading import ABNORMAL, READ_FINDINGS, ReportedPresence
from dicom_node.core.codes import table

PRESENT, ABSENT, UNCERTAIN, SILENT = ReportedPresence


def said(text: str, *languages: str) -> dict[str, ReportedPresence]:
    return dict(read(TextToRead(text, languages or ("en", "de"))).said)


def test_the_sentences_are_enough_of_every_kind_and_language() -> None:
    judged = list(sentences())
    kinds = Counter(one.kind for one in judged)
    assert len({one.text for one in judged}) >= 150
    assert {"negation", "uncertainty", "history", "no change", "comparison"} <= set(kinds)
    assert min(Counter(one.language for one in judged).values()) >= 100


@pytest.mark.parametrize("which", ["tuned", "held"])
def test_sentences_are_read_as_well_as_the_page_says(which: str) -> None:
    judged = list(sentences(which))
    wrong = [(one.text, one.finding, one.expected, one.told) for one in judged if one.expected is not one.told]
    assert not wrong


def test_the_measurement_counts_a_fault() -> None:
    judged = [one for one in sentences("held") if one.finding == "pneumonia"]
    spoilt = [type(one)(one.finding, one.expected, PRESENT, one.language, one.kind, one.text) for one in judged]
    line = next(one for one in figures(spoilt) if (one.finding, one.answer) == ("pneumonia", PRESENT))
    assert line.recall == 1.0
    assert line.precision == pytest.approx(sum(one.expected is PRESENT for one in judged) / len(judged))


def test_every_finding_that_is_read_is_a_term_of_the_terminology() -> None:
    assert tuple(finding_keys()) == READ_FINDINGS
    assert {*READ_FINDINGS, ABNORMAL} <= set(table("findings"))


def test_the_question_of_a_study_is_no_finding() -> None:
    told = said(
        "CLINICAL HISTORY: Fever, pneumonia?\nFINDINGS: Clear lungs.\nIMPRESSION: No acute disease in the chest."
    )
    assert told["pneumonia"] is ABSENT


def test_a_conclusion_is_the_last_word() -> None:
    text = "FINDINGS:\nPossible opacity at the left base.\n\nIMPRESSION:\n1. Left lower lobe pneumonia."
    assert said(text)["pneumonia"] is PRESENT
    text = "Befund:\nVerdacht auf Infiltrat links basal.\n\nBeurteilung:\nKein Infiltrat. Kein Erguss."
    assert said(text)["infiltrate"] is ABSENT


def test_lines_that_are_merely_full_are_one_sentence() -> None:
    assert said("There is no evidence of\npneumonia or\npneumothorax.") == {
        "pneumonia": ABSENT, "pneumothorax": ABSENT, "abnormal-image": ABSENT,
    }  # fmt: skip


def test_what_is_present_on_one_side_is_present() -> None:
    assert said("No right pleural effusion. Small left pleural effusion.")["pleural-effusion"] is PRESENT


def test_a_consolidation_leaves_it_open_whether_it_is_pneumonia_and_its_absence_does_not() -> None:
    assert said("Consolidation in the left lower lobe.")["pneumonia"] is UNCERTAIN
    assert said("No focal consolidation.")["pneumonia"] is ABSENT


def test_a_text_that_names_nothing_says_nothing() -> None:
    reading = read(TextToRead("Degenerative changes of the spine."))
    assert not reading.said
    assert reading.of("pneumonia") is SILENT


def test_the_language_is_told_by_the_text_itself() -> None:
    assert read(TextToRead("Keine Pneumonie.", ("en", "de"))).language == "de"
    assert read(TextToRead("No pneumonia.", ("de", "en"))).language == "en"


def test_umlauts_are_read_in_either_spelling() -> None:
    assert said("Pleuraergüsse beidseits, Herz vergrößert.") == said("Pleuraerguesse beidseits, Herz vergroessert.")


def test_a_reading_names_the_rules_it_was_made_by() -> None:
    assert read(TextToRead("x")).rules == rules_digest()
    assert len(rules_digest()) == 12


@pytest.mark.parametrize(
    "text",
    [
        "no " * 40_000, "pneumonia " * 20_000, "no pneumonia, " * 10_000, "(" * 100_000, "a" * 200_000, "?" * 100_000,
        "not " * 20_000 + "excluded", "is " + "very " * 30_000 + "unlikely", "\n" * 100_000, "findings:" * 20_000,
        "\x00\ud800\u202e pneumonia", "fractures of the " + "the " * 30_000 + "ribs", "kein " * 50_000 + "erguss",
    ],
)  # fmt: skip
def test_a_text_that_was_made_to_cause_trouble_is_read_in_a_moment(text: str) -> None:
    started = time.thread_time()
    read(TextToRead(text))
    assert time.thread_time() - started < 3.0


def test_more_than_any_report_is_not_read() -> None:
    assert not said("x " * MOST_CHARACTERS + "pneumonia")
