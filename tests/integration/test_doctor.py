"""The doctor against real peers: Orthanc, DCMTK, and web servers that answer as they should not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from dicom_node.core.outputs.artifact_kinds import REPORTS, SECONDARY_CAPTURE, SEGMENTATION
from dicom_node.doctor import Check, register_with_orthanc
from dicom_node.doctor.configured import check_destinations
from dicom_node.doctor.machine import check_ports
from dicom_node.doctor.records import check_database
from dicom_node.roles.settings import SiteSettings
from tests.peers.dcmtk import Receiver, profile_taking, running_storescp
from tests.peers.fhir_server import FhirServer
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port
from tests.support import needs


def settings(folder: Path, **sections: Any) -> SiteSettings:
    return SiteSettings.model_validate({"node": {"data_dir": folder, "min_free_mb": 0}, **sections})


PATIENTS = {"patient_system": "https://hospital.example/mrn"}


def check_of(folder: Path, destination: dict[str, Any], **sections: Any) -> Check:
    (check,) = check_destinations(settings(folder, destination=[{"name": "there", **destination}], **sections))
    return check


def dicom_to(peer: Orthanc | Receiver, aet: str) -> dict[str, Any]:
    port = peer.dicom_port if isinstance(peer, Orthanc) else peer.port
    return {"kind": "dicom", "ae_title": aet, "host": "127.0.0.1", "port": port}


@contextmanager
def web_server(body: object, status: int = 200) -> Iterator[str]:
    """Answer every GET with one JSON document."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/fhir"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_pacs_that_takes_all_results_is_well(orthanc: Orthanc, tmp_path: Path) -> None:
    check = check_of(tmp_path, dicom_to(orthanc, orthanc.aet))

    assert check.ok, check
    takes = "takes SC, SEG, PM, GSPS, KOS, PDF, SR comprehensive3d, SR comprehensive, SR enhanced"
    assert check.text.endswith(f"{takes}; gets SC, SEG binary, SR comprehensive3d; says whose study it has")
    web = check_of(tmp_path, {"kind": "dicomweb", "url": orthanc.dicomweb_url, "preset": "weasis"})
    assert web.ok
    gets = "gets SC, SEG binary, GSPS, KOS, PDF, SR comprehensive3d"
    assert web.text.endswith(f"answers QIDO-RS; {gets}; says whose study it has")
    unasked = check_of(tmp_path, dicom_to(orthanc, orthanc.aet) | {"check_identity": "none"})
    assert unasked.ok
    assert "whose study" not in unasked.text


def test_a_wrong_ae_title_is_told_from_a_wrong_port(orthanc: Orthanc, tmp_path: Path) -> None:
    assert "rejected the association" in check_of(tmp_path, dicom_to(orthanc, "OTHER")).text
    nobody = {"kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    assert "cannot be reached" in check_of(tmp_path, nobody).text


def test_a_pacs_without_3d_reports_gets_what_it_takes_unless_the_site_insists(tmp_path: Path) -> None:
    profile = profile_taking(tmp_path, [SECONDARY_CAPTURE, SEGMENTATION, REPORTS["comprehensive"]])
    with running_storescp(tmp_path / "old", "-xf", str(profile), "Default") as old:
        fitted = check_of(tmp_path, dicom_to(old, old.aet))
        insisting = check_of(tmp_path, dicom_to(old, old.aet), results={"sr_sop_class": "comprehensive3d"})
        wanting_more = check_of(tmp_path, dicom_to(old, old.aet) | {"preset": "weasis"})

    assert fitted.ok, fitted
    assert "takes SC, SEG, SR comprehensive; gets SC, SEG binary, SR comprehensive; " in fitted.text
    assert "; cannot be asked whose study it has (" in fitted.text
    assert not insisting.ok
    assert 'Set sr_sop_class = "auto"' in insisting.advice
    assert wanting_more.text.endswith("; takes no GSPS; takes no KOS; takes no PDF")
    assert "turn it off in outputs" in wanting_more.advice


@pytest.mark.parametrize(
    ("statement", "status", "seen"),
    [
        ({"fhirVersion": "4.3.0"}, 200, "speaks FHIR 4.3.0"),
        ({"message": "who are you"}, 401, "answers HTTP 401"),
        ({"a": "login page"}, 200, "answers HTTP 200"),
    ],
)
def test_an_ehr_that_cannot_be_used_says_why(tmp_path: Path, statement: object, status: int, seen: str) -> None:
    with web_server(statement, status) as url:
        check = check_of(tmp_path, {"kind": "fhir", "url": url})

    assert not check.ok
    assert seen in check.text
    assert check.advice


def test_the_headers_that_an_ehr_wants_go_with_every_question(fhir_server: FhirServer, tmp_path: Path) -> None:
    destination = {"kind": "fhir", "url": fhir_server.url, "headers": {"X-Api-Key": "the-key"}}

    assert check_of(tmp_path, destination, fhir=PATIENTS).ok
    assert {one["apiKey"] for one in fhir_server.log()} == {"the-key"}


def test_a_real_r4_server_is_well_with_the_right_token_only(
    start_fhir_server: Callable[..., FhirServer], tmp_path: Path
) -> None:
    server = start_fhir_server("the-token")
    destination = {"kind": "fhir", "url": server.url}

    admitted = check_of(tmp_path, {**destination, "token": "the-token"}, fhir=PATIENTS)
    turned_away = check_of(tmp_path, {**destination, "token": "another"})

    assert admitted.ok, admitted
    assert turned_away.text.endswith("answers HTTP 401 to a search for DiagnosticReport")
    assert "the-token" not in turned_away.text + turned_away.advice


@pytest.mark.parametrize(
    ("interaction", "seen"), [("transaction", "reports go in one transaction"), ("batch", "reports go one by one")]
)
def test_an_r4_server_is_well_with_and_without_transactions(tmp_path: Path, interaction: str, seen: str) -> None:
    statement = {"fhirVersion": "4.0.1", "rest": [{"interaction": [{"code": interaction}]}]}
    with web_server(statement) as url:
        check = check_of(tmp_path, {"kind": "fhir", "url": url}, fhir=PATIENTS)

    assert check.ok
    assert check.text.endswith(seen)


@pytest.mark.parametrize("rest", [None, 5, [None], [{"interaction": None}], [{"interaction": [None, {"code": 5}]}]])
def test_a_statement_out_of_shape_does_not_end_the_doctor(tmp_path: Path, rest: object) -> None:
    with web_server({"fhirVersion": "4.0.1", "rest": rest}) as url:
        check = check_of(tmp_path, {"kind": "fhir", "url": url}, fhir=PATIENTS)

    assert "FHIR 4.0.1" in check.text


def test_an_ehr_whose_patients_have_no_identifier_system_is_not_well(fhir_server: FhirServer, tmp_path: Path) -> None:
    destination = {"kind": "fhir", "url": fhir_server.url}

    assert "fhir.patient_system" in check_of(tmp_path, destination).advice
    assert check_of(tmp_path, destination, fhir={"issuers": {"A": "urn:oid:1.2"}}).ok
    assert check_of(tmp_path, {**destination, "patient": "logical"}).ok


def test_an_ehr_that_does_not_let_the_node_search_patients_is_not_well(fhir_server: FhirServer, tmp_path: Path) -> None:
    destination = {"kind": "fhir", "url": fhir_server.url}
    fhir_server.set(refuse=[{"method": "GET", "path": "^/Patient$", "status": 403}])

    check = check_of(tmp_path, destination, fhir=PATIENTS)

    assert not check.ok
    assert "HTTP 403 to a search for Patient" in check.text
    assert check_of(tmp_path, {**destination, "patient": "logical"}).ok


def test_a_port_in_use_by_another_program_is_reported(storescp: Receiver, tmp_path: Path) -> None:
    dicom, api = check_ports(settings(tmp_path, dicom={"port": storescp.port}, api={"port": free_port()}))

    assert not dicom.ok
    assert api.ok


def test_a_free_port_of_ipv6_is_free(tmp_path: Path) -> None:
    needs.ipv6()
    where = {"host": "::1", "port": free_port()}

    assert all(check.ok for check in check_ports(settings(tmp_path, dicom=where, api={**where, "port": free_port()})))


def test_an_empty_postgres_database_is_well(postgres_url: str, tmp_path: Path) -> None:
    check = check_database(settings(tmp_path, database={"url": postgres_url}))

    assert check.ok
    assert "tables are made at first start" in check.text


def test_registration_with_orthanc_is_verified_and_repeatable(orthanc: Orthanc, tmp_path: Path) -> None:
    # DCMTK's storage SCP stands where the node would listen.
    with running_storescp(tmp_path / "scp", aet="AINODE") as listener:
        one = settings(tmp_path, dicom={"port": listener.port})
        first = register_with_orthanc(one, orthanc.http_url)
        again = register_with_orthanc(one, orthanc.http_url)

    entry = orthanc.get("/modalities?expand")["ainode"]
    assert (entry["AET"], entry["Host"], entry["Port"]) == ("AINODE", "127.0.0.1", listener.port)
    assert first.ok
    assert first.text.startswith("registered as")
    assert again.ok
    assert again.text.startswith("already registered")


def test_registration_without_a_listening_node_says_what_to_do(orthanc: Orthanc, tmp_path: Path) -> None:
    check = register_with_orthanc(settings(tmp_path, dicom={"port": free_port()}), orthanc.http_url, "other")

    assert not check.ok
    assert "[[peer]]" in check.advice
    assert "other" in orthanc.get("/modalities")


def test_registration_never_shows_the_password(tmp_path: Path) -> None:
    check = register_with_orthanc(settings(tmp_path), f"http://admin:hunter2@127.0.0.1:{free_port()}")

    assert not check.ok
    assert "hunter2" not in check.name + check.text + check.advice


@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
@pytest.mark.parametrize("host", ["\N{SNOWMAN}", "a" * 300], ids=["snowman", "long"])
def test_a_host_that_no_client_can_look_up_is_told(tmp_path: Path, kind: str, host: str) -> None:
    check = check_of(tmp_path, {"kind": kind, "url": f"https://{host}/x"})
    assert not check.ok
    assert "cannot be reached" in check.text


@pytest.mark.parametrize("key", ["client_certificate", "ca"])
def test_a_certificate_that_cannot_be_used_is_told_with_the_keys_that_may_name_it(tmp_path: Path, key: str) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    pacs = {"kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port(), "tls": True}
    with socket.create_server(("127.0.0.1", pacs["port"])):
        check = check_of(tmp_path, pacs | {key: tmp_path / "junk.pem"})
    assert not check.ok
    assert check.advice == "Check tls_ca, client_certificate, and [dicom_tls] of this node."
