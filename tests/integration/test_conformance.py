"""A running node accepts what the conformance statement says, and refuses what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    CTImageStorage,
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from tests.peers.node import Node
from tools.generated_docs import DOCS

#: Results of a presentation context (PS3.8 Table 9-18).
ACCEPTED, NO_ABSTRACT_SYNTAX, NO_TRANSFER_SYNTAX = 0, 3, 4
#: (SOP class, transfer syntax)
Context = tuple[str, str]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    one = Node(tmp_path_factory.mktemp("node"), {"route": []})
    one.start()
    yield one
    one.kill9()


def stated(table: str) -> list[str]:
    """Return the UIDs of a table of the statement."""
    text = (DOCS / "reference" / "conformance.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- written from the code: {table} -->(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None, f"no table {table}"
    return re.findall(r"\| `([0-9.]+)`", found[1])


def results(node: Node, contexts: Sequence[Context]) -> dict[Context, int]:
    """Propose each context and return what it was answered with; 128 fit one association."""
    answered: dict[Context, int] = {}
    for start in range(0, len(contexts), 128):
        ae = AE(ae_title="MOD1")
        # Pairs, for pynetdicom would put the syntaxes of a class into one context.
        for sop_class, syntax in contexts[start : start + 128]:
            ae.add_requested_context(sop_class, syntax)
        association = ae.associate("127.0.0.1", node.dicom_port, ae_title=node.aet)
        assert association.is_established or association.is_aborted, "the association was rejected"
        for one in (*association.accepted_contexts, *association.rejected_contexts):
            for syntax in one.transfer_syntax:
                answered[str(one.abstract_syntax), str(syntax)] = one.result
        if association.is_established:
            association.release()
    return answered


def test_every_storage_class_of_the_statement_is_accepted(node: Node) -> None:
    classes = stated("storage SOP classes")
    assert len(classes) > 150
    contexts = [(uid, str(ExplicitVRLittleEndian)) for uid in classes]
    assert results(node, contexts) == dict.fromkeys(contexts, ACCEPTED)


def test_every_transfer_syntax_of_the_statement_is_accepted_alone(node: Node) -> None:
    for syntax in stated("transfer syntaxes"):
        context = (str(CTImageStorage), syntax)
        assert results(node, [context]) == {context: ACCEPTED}


def test_the_other_services_are_what_the_statement_says(node: Node) -> None:
    text = (DOCS / "reference" / "conformance.md").read_text(encoding="utf-8")
    roles = dict(re.findall(r"^\| [^|]+ \| `([0-9.]+)` \| (SCP|SCU|SCP, SCU) \|", text, re.MULTILINE))
    contexts = [(uid, str(ImplicitVRLittleEndian)) for uid in roles]
    answered = results(node, contexts)
    assert {uid for (uid, _), result in answered.items() if result == ACCEPTED} == {
        uid for uid, role in roles.items() if "SCP" in role
    }


def test_what_the_statement_leaves_out_is_refused_with_the_reason(node: Node) -> None:
    others = (
        StudyRootQueryRetrieveInformationModelFind,
        PatientRootQueryRetrieveInformationModelFind,
        ModalityWorklistInformationFind,
        "1.3.12.2.1107.5.9.1",
    )
    contexts = [(str(uid), str(ExplicitVRLittleEndian)) for uid in others]
    deflated = (str(CTImageStorage), str(DeflatedExplicitVRLittleEndian))
    expected = dict.fromkeys(contexts, NO_ABSTRACT_SYNTAX) | {deflated: NO_TRANSFER_SYNTAX}
    assert results(node, [*contexts, deflated]) == expected
