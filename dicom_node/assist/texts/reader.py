"""Read presence and absence of findings out of a report, sentence by sentence.

After NegEx and ConText (Chapman 2001, Harkema 2009): a finding is there unless a word before or behind it, which
nothing cuts off, says that it is absent, uncertain, past, or asked about. The word lists are the project's own.
`read` is the target of a process with limits: what strangers write is read nowhere else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.assist.texts.lexicon import (
    EVERYTHING,
    LANGUAGES,
    Cue,
    Language,
    NamedFinding,
    ReportSection,
    language,
    rules_digest,
)
from dicom_node.core.assessment.report_reading import ABNORMAL, ReportedPresence, ReportReading

#: More of a report is not read; the longest that people write are a tenth of it.
MOST_CHARACTERS = 100_000
_LONGEST_SENTENCE = 2000
_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "’": "'", "–": "-", "\t": " ", "\r": "\n"})
#: A sentence ends at a mark behind which a blank follows, and at the end of a line that is not merely full.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=\s*(?:[-*•>]|\d+[.)])\s)")
_LINE = re.compile(r"\n\s*")
#: Between a finding and a word behind it that is about it stand so many words at most, and no other clause.
_MOST_WORDS_BETWEEN = 7
_LIST_MARKS = re.compile(r"\b(?:and|or|und|oder|sowie|nor|noch)\b|[,/()]")
#: What the second of two statements on one finding in the same part of a report cannot take away.
_STRENGTH = (ReportedPresence.PRESENT, ReportedPresence.UNCERTAIN, ReportedPresence.ABSENT)


@dataclass(frozen=True, slots=True)
class TextToRead:
    """A report as it came, and the languages it may be written in, the likeliest first."""

    text: str
    languages: tuple[str, ...] = LANGUAGES


@dataclass(frozen=True, slots=True)
class _Mention:
    finding: NamedFinding
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Found:
    cue: Cue
    start: int
    end: int


def read(asked: TextToRead) -> ReportReading:
    """Return what a report says of every finding that it names."""
    text = asked.text[:MOST_CHARACTERS].lower().translate(_LETTERS)
    words = _language_of(text, asked.languages)
    for pattern, meant in words.short:
        text = pattern.sub(meant, text)
    said: dict[ReportSection, dict[str, ReportedPresence]] = defaultdict(dict)
    for section, sentence in _sentences(text, words):
        for finding, presence in _read_sentence(sentence, words):
            said[section][finding] = _stronger(said[section].get(finding), presence)
    whole = {**said[ReportSection.FINDINGS], **said[ReportSection.CONCLUSION]}  # what it concludes is its last word
    return ReportReading(language=words.name, rules=rules_digest(), said=_with_consequences(whole, words))


def _language_of(text: str, names: Sequence[str]) -> Language:
    def counted(name: str) -> int:
        words, start = language(name), text[:5000]
        return sum(len(one.findall(start)) for one in (words.common, *(finding.names for finding in words.findings)))

    return language(max(names, key=counted))


def _stronger(known: ReportedPresence | None, new: ReportedPresence) -> ReportedPresence:
    return new if known is None else min(known, new, key=_STRENGTH.index)


# --- sections and sentences ---------------------------------------------------------------------------------------


def _sentences(text: str, words: Language) -> Iterator[tuple[ReportSection, str]]:
    """Yield the sentences that tell what was found, with the section in which they stand."""
    section = ReportSection.FINDINGS
    for block in _blocks(text, words):
        heading = _heading(block, words)
        if heading is not None:
            section, length = heading
            block = block[length:].lstrip(" :\n")  # noqa: PLW2901 - the heading is no part of the sentence
        if section is ReportSection.NEITHER:
            continue
        for sentence in _SENTENCE_END.split(block):
            yield section, _LINE.sub(" ", sentence)[:_LONGEST_SENTENCE]


def _blocks(text: str, words: Language) -> Iterator[str]:
    """Yield pieces of text that begin with a heading, but for the first perhaps; a heading begins a line, or a sentence
    that ends in a colon."""
    piece: list[str] = []
    for line in re.split(r"\n|(?<=[.?!]) (?=[^.?!\n:]{3,40}:)", text):
        if _heading(line.strip(), words) is not None and piece:
            yield "\n".join(piece)
            piece = []
        piece.append(line.strip())
    yield "\n".join(piece)


def _heading(block: str, words: Language) -> tuple[ReportSection, int] | None:
    first = block.partition("\n")[0]
    for section, headings in words.sections.items():
        if found := headings.match(first):
            rest = first[found.end() :].strip()
            if rest.startswith(":") or not rest:
                return section, found.end()
    return None


# --- one sentence -------------------------------------------------------------------------------------------------


def _read_sentence(sentence: str, words: Language) -> Iterator[tuple[str, ReportedPresence]]:
    mentions = _mentions(sentence, words)
    no_cues = [found.span() for found in words.no_cue.finditer(sentence)]
    before = _cues(sentence, words.before, no_cues)
    after = _cues(sentence, words.after, no_cues)
    for mention in mentions:
        cue = _cue_of(sentence, mention, mentions, (before, after), words)
        presence = ReportedPresence.PRESENT if cue is None else _MEANT[cue]
        if presence is not ReportedPresence.SILENT:
            yield mention.finding.key, presence
    for phrase in words.normal:
        if found := phrase.words.search(sentence):
            is_free = not any(cue.end <= found.start() and cue.cue is Cue.ASKED for cue in before)
            yield from ((key, ReportedPresence.ABSENT) for key in _all_of(phrase.absent, words) if is_free)


_MEANT = {
    Cue.ABSENT: ReportedPresence.ABSENT,
    Cue.UNCERTAIN: ReportedPresence.UNCERTAIN,
    Cue.ASKED: ReportedPresence.UNCERTAIN,
    Cue.HISTORY: ReportedPresence.SILENT,
}


def _all_of(keys: Sequence[str], words: Language) -> Sequence[str]:
    return [one.key for one in words.findings] if EVERYTHING in keys else keys


def _mentions(sentence: str, words: Language) -> list[_Mention]:
    found = []
    for finding in words.findings:
        others = [one.span() for one in finding.other_things.finditer(sentence)] if finding.other_things else []
        found += [
            _Mention(finding, *one.span())
            for one in finding.names.finditer(sentence)
            if not _touches(one.span(), others)
        ]
    return sorted(found, key=lambda one: one.start)


def _touches(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in others)


def _cues(sentence: str, patterns: Mapping[Cue, re.Pattern[str]], no_cues: Sequence[tuple[int, int]]) -> list[_Found]:
    """Return the words of a class that are none of another: of those that overlap the longest counts."""
    found = [
        _Found(cue, *one.span())
        for cue, pattern in patterns.items()
        for one in pattern.finditer(sentence)
        if not _touches(one.span(), no_cues)
    ]
    kept: list[_Found] = []
    for one in sorted(found, key=lambda cue: (cue.start - cue.end, cue.start)):
        if not _touches((one.start, one.end), [(other.start, other.end) for other in kept]):
            kept.append(one)
    return sorted(kept, key=lambda cue: cue.start)


def _cue_of(
    sentence: str,
    mention: _Mention,
    mentions: Sequence[_Mention],
    cues: tuple[Sequence[_Found], Sequence[_Found]],
    words: Language,
) -> Cue | None:
    """Return what the words around a mention make of it: those behind it go first, for they are about it alone."""

    def between(start: int, end: int) -> str:
        """Return what stands there besides other findings, which may be one list with this one."""
        kept = list(sentence[start:end])
        for one in mentions:
            if start <= one.start and one.end <= end:
                kept[one.start - start : one.end - start] = " " * (one.end - one.start)
        return "".join(kept)

    ahead = next(
        (
            cue
            for cue in reversed(cues[0])
            if cue.end <= mention.start and _reaches(between(cue.end, mention.start), cue.cue, words)
        ),
        None,
    )
    behind = next((cue for cue in cues[1] if cue.start >= mention.end), None)
    if behind is not None and not _is_about(between(mention.end, behind.start), words):
        behind = None
    if ahead is not None and (behind is None or ahead.cue is Cue.ASKED):
        return ahead.cue
    return None if behind is None else behind.cue


def _reaches(between: str, cue: Cue, words: Language) -> bool:
    """Whether a word ahead is about what follows: absence of a whole list, all else of what stands in one with it."""
    if words.ends.search(between):
        return False
    return cue is Cue.ABSENT or _is_list(between)


def _is_about(between: str, words: Language) -> bool:
    is_near = len(_LIST_MARKS.sub(" ", between).split()) <= _MOST_WORDS_BETWEEN
    return is_near and _is_list(between) and not words.ends.search(between)


def _is_list(between: str) -> bool:
    """Whether behind a comma nothing stands but other findings."""
    return not _LIST_MARKS.sub(" ", between.partition(",")[2]).strip()


# --- what follows from what is said -------------------------------------------------------------------------------


def _with_consequences(said: Mapping[str, ReportedPresence], words: Language) -> dict[str, ReportedPresence]:
    """Add what is there, thought possible or absent because something else is; nothing that was said is taken away."""
    whole = dict(said)
    for one in words.findings:
        presence = said.get(one.key)
        if presence is ReportedPresence.PRESENT:
            whole |= dict.fromkeys(one.implies, ReportedPresence.PRESENT)
    for one in words.findings:
        if said.get(one.key) in (ReportedPresence.PRESENT, ReportedPresence.UNCERTAIN):
            for other in one.suggests:
                whole.setdefault(other, ReportedPresence.UNCERTAIN)
    for one in words.findings:
        if said.get(one.key) is ReportedPresence.ABSENT:
            for other in one.rules_out:
                whole.setdefault(other, ReportedPresence.ABSENT)
    if whole:
        whole[ABNORMAL] = min(whole.values(), key=_STRENGTH.index)
    return whole
