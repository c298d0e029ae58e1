"""The parts of the documentation that are written from the code, so that they cannot go stale.

Run ``python -m tools.generated_docs`` after a change; `test_docs` fails until that was done.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dicom_node.config.changes import is_live
from dicom_node.core import codes as terminology
from dicom_node.core.alarms.rules import rule_table
from dicom_node.core.lifecycle import TRANSITIONS
from dicom_node.core.metrics.table import metric_table
from dicom_node.core.reasons import hold_table, reason_table
from dicom_node.inference.cards.schema import KEYS
from dicom_node.inference.runtimes.table import RUNTIMES, Runtime
from dicom_node.roles.settings import SiteSettings
from tests.support.needs import REPOSITORY
from tools import service_libraries
from tools.pages import (
    attribute_tables,
    column_tables,
    conformance_tables,
    drawings,
    event_pages,
    interface_pages,
    message_examples,
    resource_examples,
)

DOCS = REPOSITORY / "docs"


def settings_tables() -> str:
    """One table per section of the settings, and per kind of it: key, default, when it takes effect, meaning."""
    parts = []
    for section, field in SiteSettings.model_fields.items():
        sections = _sections_in(field.annotation)
        if sections[0] is field.annotation:
            parts.append(_settings_table(section, f"### `[{section}]`", sections[0]))
            parts += _tables_inside(section, sections[0])
        elif len(sections) == 1:
            parts.append(_settings_table(section, f"### `[[{section}]]`, any number", sections[0]))
        else:
            parts += [_kind_table(section, one) for one in sections]
    return "\n\n".join(parts)


def _tables_inside(section: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield the tables of the lists, and of the sections of its own, that a section has."""
    for key, field in model.model_fields.items():
        for inner in _sections_in(field.annotation):
            is_list = get_origin(field.annotation) is tuple
            heading = f"### `[[{section}.{key}]]`, any number" if is_list else f"### `[{section}.{key}]`"
            yield _settings_table(section, heading, inner)


def _kind_table(section: str, kind: type[BaseModel]) -> str:
    name = get_args(kind.model_fields["kind"].annotation)[0]
    return _settings_table(section, f"### `[[{section}]]` of kind `{name}`, any number\n\n{inspect.getdoc(kind)}", kind)


def _settings_table(section: str, heading: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{key}` | {_default(one)} | {_in_force(section, key)} | {one.description} |"
        for key, one in model.model_fields.items()
    ]
    return "\n".join([heading, "", "| key | default | in force | meaning |", "|---|---|---|---|", *rows])


def _in_force(section: str, key: str) -> str:
    return "reload" if is_live(section) or is_live(f"{section}.{key}") else "restart"


def state_table() -> str:
    """Which states there are and which may follow which."""
    rows = [
        f"| {what} | `{old}` | {', '.join(f'`{new}`' for new in sorted(following)) or 'none: it is final'} |"
        for what, transitions in TRANSITIONS.items()
        for old, following in transitions.items()
    ]
    return "\n".join(["| what | state | may become |", "|---|---|---|", *rows])


def card_tables() -> str:
    """One table per table of a model card: key, type, default, meaning."""
    parts = []
    for table in dict.fromkeys(key.table for key in KEYS):
        rows = [f"| `{key.name}` | {key.kind} | {key.default} | {key.meaning} |" for key in KEYS if key.table == table]
        heading = f"## `[{table}]`" if table else "## The top of the card"
        parts.append("\n".join([heading, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def runtime_table() -> str:
    """What a card may name as runtime."""
    header = "| `runtime` | `task` | `[weights] file` | needs | explains an image by | refuses |"
    return "\n".join([header, "|---|---|---|---|---|---|", *map(_runtime_row, RUNTIMES.values())])


def _runtime_row(one: Runtime) -> str:
    needs = f"`dicom-node[{one.extra}]`" if one.extra else "no extra"
    methods = ", ".join(f"`{method}`" for method in one.explains)
    cells = (f"`{one.name}`", ", ".join(one.tasks), one.weights, needs, methods, one.refuses)
    return f"| {' | '.join(cells)} |"


def terminology_tables() -> str:
    """One table per table of the terminology."""
    parts = []
    for one in terminology.TABLES:
        rows = [_term_row(term) for term in terminology.table(one).values()]
        header = ["| key | code | meaning | checked | also known as |", "|---|---|---|---|---|"]
        parts.append("\n".join([f"## {one.capitalize()}", "", *header, *rows]))
    return "\n\n".join(parts)


def _term_row(term: terminology.Term) -> str:
    also = ", ".join(f"{one.scheme} {one.value}" for one in term.equivalents)
    cells = (f"`{term.key}`", f"{term.code.scheme} `{term.code.value}`", term.code.meaning, term.reviewed, also)
    return f"| {' | '.join(cells)} |"


PARTS: Mapping[tuple[str, str], Callable[[], str]] = {
    ("reference/configuration.md", "settings"): settings_tables,
    ("reference/conformance.md", "services"): conformance_tables.services,
    ("reference/conformance.md", "storage SOP classes"): conformance_tables.storage_sop_classes,
    ("reference/conformance.md", "SOP classes of results"): conformance_tables.sent_sop_classes,
    ("reference/conformance-attributes.md", "attributes of results"): attribute_tables.attribute_tables,
    ("reference/conformance.md", "transfer syntaxes"): conformance_tables.transfer_syntaxes,
    ("reference/conformance.md", "C-STORE statuses"): conformance_tables.store_statuses,
    ("reference/conformance.md", "N-ACTION statuses"): conformance_tables.action_statuses,
    ("reference/conformance.md", "N-EVENT-REPORT statuses"): conformance_tables.event_statuses,
    ("reference/conformance.md", "failure reasons"): conformance_tables.failure_reasons,
    ("reference/conformance.md", "rejections"): conformance_tables.rejections,
    ("reference/conformance.md", "aborts"): conformance_tables.aborts,
    ("reference/conformance.md", "answers to results"): conformance_tables.answers_to_results,
    ("how-to/connect-a-folder.md", "sidecar"): event_pages.sidecar_example,
    ("reference/events.md", "events"): event_pages.event_table,
    ("reference/events.md", "facts of events"): event_pages.fact_table,
    ("reference/events.md", "example of an event"): event_pages.event_example,
    ("explanation/architecture.md", "states"): state_table,
    ("reference/model-card.md", "model card"): card_tables,
    ("reference/runtimes.md", "runtimes"): runtime_table,
    ("reference/reasons.md", "reasons"): reason_table,
    ("reference/reasons.md", "holds"): hold_table,
    ("reference/terminology.md", "terminology"): terminology_tables,
    ("reference/hl7-messages.md", "HL7 messages"): message_examples.message_examples,
    ("reference/fhir-resources.md", "FHIR resources"): resource_examples.resource_examples,
    ("reference/command-line.md", "commands"): interface_pages.command_tables,
    ("reference/api.md", "API"): interface_pages.api_tables,
    ("reference/roles.md", "roles and routes"): interface_pages.role_table,
    ("reference/roles.md", "public routes"): interface_pages.public_table,
    ("reference/exports.md", "columns of results"): column_tables.result_columns,
    ("reference/exports.md", "columns of studies"): column_tables.study_columns,
    ("reference/exports.md", "columns of agreement"): column_tables.group_columns,
    ("reference/exports.md", "columns of cases"): column_tables.case_columns,
    ("reference/licences.md", "licences"): service_libraries.licence_table,
    ("reference/problems.md", "problems"): interface_pages.problem_table,
    ("reference/metrics.md", "metrics"): metric_table,
    ("reference/alarms.md", "alarm rules"): rule_table,
}


def with_part(text: str, name: str, content: str) -> str:
    """Return a page with one generated part replaced. Raises `ValueError` when the page has no place for it."""
    pattern = re.compile(rf"(<!-- written from the code: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the page has no place for {name!r}")
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def pages() -> Iterator[tuple[Path, str]]:
    """Every page with generated parts and every drawing, and what it should say."""
    yield from drawings.drawings().items()
    for page in sorted({page for page, _ in PARTS}):
        path = DOCS / page
        text = path.read_text(encoding="utf-8")
        for (owner, name), render in PARTS.items():
            if owner == page:
                text = with_part(text, name, render())
        yield path, text


def _sections_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return a section; or of a list the section it is made of, or one for each kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(one for part in get_args(annotation) for one in _sections_in(part))


def _default(field: Any) -> str:
    value = field.default_factory() if field.default_factory else field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or str(value) == "" or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def main() -> None:
    """Rewrite the generated parts of all pages, and the drawings."""
    for path, text in pages():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
