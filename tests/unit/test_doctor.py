"""The doctor on this machine: no sockets beyond loopback binds, no peers."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from dicom_node.config.settings import Settings
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.principal import NODE
from dicom_node.deliver.connections.signing_keys import write_new_key
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Answer
from dicom_node.doctor import configured, run_checks
from dicom_node.doctor.configured import (
    check_certificates,
    check_destinations,
    check_hl7_senders,
    check_models,
    with_reports,
)
from dicom_node.doctor.machine import check_clock, check_data_dir, check_ports
from dicom_node.doctor.records import check_audit, check_backup, check_database, check_index
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.transitions import insert_studies
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.operate.backup.outcome import BackupOutcome, note_failed, note_made
from dicom_node.operate.backup.restored import Restoration, write_restoration
from dicom_node.people.audit.trail import open_audit
from dicom_node.roles.settings import SiteSettings, load_settings
from dicom_node.storage.owners import Owners


def settings(folder: Path, **sections: Any) -> Settings:
    node = {"data_dir": folder, "min_free_mb": 0, **sections.pop("node", {})}
    return SiteSettings.model_validate({"node": node, "dicom": {"port": 0}, "api": {"port": 0}, **sections})


def test_a_clock_before_the_installation_is_wrong() -> None:
    assert not check_clock(datetime(2001, 1, 1, tzinfo=UTC)).ok
    assert check_clock().ok


def test_the_last_backup_is_told_and_a_fault_is_one_that_failed_lacks_something_or_stays_away(tmp_path: Path) -> None:
    one = settings(tmp_path)
    (check,) = check_backup(one)
    assert (check.ok, check.text) == (True, "none was made yet by dicom-node backup")

    made = BackupOutcome(made_at=datetime.now(UTC) - timedelta(days=1), folder="/mnt/backup", snapshot="s", objects=7)
    note_made(tmp_path, made)
    (check,) = check_backup(one)
    assert check.ok
    assert "/mnt/backup, s, 7 objects" in check.text

    note_failed(tmp_path, "There is no room.")
    (check,) = check_backup(one)
    assert not check.ok
    assert check.text.startswith("last backup ")
    assert check.text.endswith(": There is no room.")

    for fault in (replace(made, faults=2), replace(made, made_at=datetime.now(UTC) - timedelta(days=9))):
        note_made(tmp_path, fault)
        (check,) = check_backup(one)
        assert not check.ok
        assert check.advice


def test_a_node_that_was_put_back_from_a_backup_says_so(tmp_path: Path) -> None:
    write_restoration(tmp_path, Restoration("2026-11-30T14-00-00Z", datetime.now(UTC), datetime.now(UTC)))
    _, check = check_backup(settings(tmp_path))
    assert "2026-11-30T14-00-00Z" in check.text
    (tmp_path / "restored.json").write_text("{")
    _, check = check_backup(settings(tmp_path))
    assert not check.ok


def test_a_data_folder_that_does_not_exist_yet_is_well(tmp_path: Path) -> None:
    check = check_data_dir(settings(tmp_path / "new" / "data"))

    assert check.ok
    assert "made at first start" in check.text
    assert not (tmp_path / "new").exists()


def test_less_room_than_the_reserve_is_reported(tmp_path: Path) -> None:
    check = check_data_dir(settings(tmp_path, node={"min_free_mb": 1 << 40}))

    assert not check.ok
    assert "refused" in check.advice


def test_a_database_to_come_is_not_made_by_looking(tmp_path: Path) -> None:
    check = check_database(settings(tmp_path))

    assert check.ok
    assert list(tmp_path.iterdir()) == []


def test_a_migrated_database_tells_its_schema(tmp_path: Path) -> None:
    one = settings(tmp_path)
    database = Database(one.database_url)
    database.migrate()
    database.close()

    check = check_database(one)

    assert check.ok
    assert f"schema {SCHEMA_HEAD}, up to date" in check.text


def test_studies_that_the_worklist_does_not_know_yet_are_counted(tmp_path: Path) -> None:
    one = settings(tmp_path)
    database = Database(one.database_url)
    database.migrate()
    with database.write() as connection:
        insert_studies(connection, {"1.2.3": datetime.now(UTC)})
    database.close()
    (check,) = (seen for seen in check_index(one) if seen.name == "worklist")
    assert check.ok
    assert check.text.startswith("1 study is not sorted")


def test_an_audit_trail_without_its_key_is_told_and_one_that_is_well_says_where_its_anchor_lies(tmp_path: Path) -> None:
    one = settings(tmp_path, audit={"anchor_file": str(tmp_path / "elsewhere" / "anchor")})
    assert check_audit(one) == [], "no node has run here"
    (tmp_path / "ports.json").write_text('{"api": 1}')
    database = Database(one.database_url)
    database.migrate()
    trail = open_audit(one, database)
    trail.record(AuditedEvent(act=AuditedAct.RETRY, actor=NODE))
    trail.close()
    database.close()
    (well,) = check_audit(one)
    assert well.ok
    assert f"1 records, anchored in {tmp_path / 'elsewhere' / 'anchor'}" in well.text

    (tmp_path / "audit" / "key").unlink()
    (gone,) = check_audit(one)
    assert not gone.ok
    assert "cannot be read" in gone.text


def test_a_database_of_a_newer_node_is_refused(tmp_path: Path) -> None:
    one = settings(tmp_path)
    database = Database(one.database_url)
    database.migrate()
    with database.write() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()

    check = check_database(one)

    assert not check.ok
    assert "newer" in check.text


def test_a_password_in_the_database_url_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg2://node:hunter2@127.0.0.1:1/x"

    check = check_database(settings(tmp_path, database={"url": url}))

    assert not check.ok
    assert "hunter2" not in check.text + check.advice


def test_port_zero_means_any(tmp_path: Path) -> None:
    assert all(check.ok for check in check_ports(settings(tmp_path)))


def test_a_port_that_a_living_process_of_the_node_serves_is_well_whoever_may_call_it(tmp_path: Path) -> None:
    """Peers that are listed are the only ones who are answered, so that no question on the port would prove it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = settings(
            tmp_path, dicom={"port": port, "host": "0.0.0.0"}, peer=[{"ae_title": "CT1", "host": "10.0.0.1"}]
        )
        (before, _) = check_ports(one)
        process = Owners(tmp_path / "owners")
        process.note(ports={"dicom": port})
        (served, _) = check_ports(one)
        os.utime(tmp_path / "owners" / f"{process.me.token}.lock", (1, 1))
        Owners(tmp_path / "owners").beat()
        (silent, _) = check_ports(one)
        process.leave()
        (left, _) = check_ports(one)

    assert (served.ok, served.text) == (True, f"0.0.0.0:{port}, served by this node")
    assert not silent.ok
    assert "no sign of life" in silent.text
    assert (before.ok, left.ok) == (False, False)
    assert "End the program" in left.advice


def test_a_node_that_speaks_tls_alone_is_asked_for_no_other_port(tmp_path: Path) -> None:
    (tmp_path / "node.pem").write_text("")
    tls = {"certificate": tmp_path / "node.pem", "private_key": tmp_path / "node.pem", "client_certificate": "none"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = {"port": taken.getsockname()[1], "plain": False}
        checks = check_ports(settings(tmp_path, dicom=where, dicom_tls={**tls, "port": taken.getsockname()[1]}))

    assert [check.name for check in checks] == ["DICOM TLS port", "API port"]
    assert "another dicom_tls.port" in checks[0].advice


HL7 = {"patient_authority": "HOSP"}


def test_the_port_of_hl7_is_looked_at_as_that_of_dicom_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = settings(tmp_path, hl7={**HL7, "port": port})
        stranger = check_ports(one)[-1]
        process = Owners(tmp_path / "owners")
        process.note(ports={"hl7": port})
        served = check_ports(one)[-1]
        process.leave()
    assert (stranger.name, stranger.ok) == ("HL7 port", False)
    assert "another hl7.port" in stranger.advice
    assert (served.ok, served.text) == (True, f"127.0.0.1:{port}, served by this node")
    assert "HL7 port" not in [check.name for check in check_ports(settings(tmp_path))]


@pytest.mark.parametrize(
    ("host", "peers", "text", "advice"),
    [
        ("127.0.0.1", [], "every program on this machine may send", ""),
        ("0.0.0.0", [{"host": "10.1.2.40"}, {"host": "10.2.0.0/16"}], "from 10.1.2.40, 10.2.0.0/16", ""),
        ("0.0.0.0", [{"host": "10.1.2.40"}, {"host": "any"}], "from 10.1.2.40, every address", "merge patients"),
        ("0.0.0.0", [{"host": "any", "certificate_sha256": "ab" * 32}], "from every address", ""),
    ],
)
def test_who_may_send_hl7_is_told(
    tmp_path: Path, host: str, peers: list[dict[str, Any]], text: str, advice: str
) -> None:
    (check,) = check_hl7_senders(settings(tmp_path, hl7={**HL7, "port": 0, "host": host, "peer": peers}))
    assert check.ok
    assert text in check.text
    assert bool(check.advice) == bool(advice)
    assert advice in check.advice
    assert check_hl7_senders(settings(tmp_path)) == []


def test_an_address_of_another_machine_is_no_port_that_is_taken(tmp_path: Path) -> None:
    (check, _) = check_ports(settings(tmp_path, dicom={"port": 4711, "host": "192.0.2.1"}, peer=[{"ae_title": "CT1"}]))

    assert check.advice == "Give dicom.host an address of this machine."


def test_a_route_to_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    (check,) = check_models(settings(tmp_path, route=[{"name": "a", "model": "nobody"}]))

    assert not check.ok
    assert "there is no model nobody; there are: ct-lung-density" in check.text


@pytest.mark.parametrize("configured", [(), [{"name": "out", "kind": "folder", "path": "/proc/nowhere"}]])
def test_results_that_could_go_nowhere_are_reported(tmp_path: Path, configured: Any) -> None:
    (check,) = check_destinations(settings(tmp_path, destination=configured))

    assert not check.ok
    assert check.advice


def test_a_model_that_nobody_accepted_is_told_with_what_to_do_and_makes_no_database(tmp_path: Path) -> None:
    folder = tmp_path / "brought" / "ct-copy"
    shutil.copytree(SHIPPED_MODELS / "ct-lung-density", folder)
    card = folder / "model_card.toml"
    card.write_text(card.read_text(encoding="utf-8").replace('name = "ct-lung-density"', 'name = "ct-copy"'))
    one = settings(
        tmp_path / "data", inference={"models_dirs": [tmp_path / "brought"]}, route=[{"name": "a", "model": "ct-copy"}]
    )

    (check,) = check_models(one)

    assert not check.ok
    assert "MODEL_NOT_ACCEPTED" in check.text
    assert "dicom-node models accept ct-copy" in check.text
    assert not (tmp_path / "data").exists()


def test_a_model_folder_that_cannot_be_read_is_told_and_the_routes_of_others_are_well(tmp_path: Path) -> None:
    (tmp_path / "brought" / "broken").mkdir(parents=True)
    (tmp_path / "brought" / "broken" / "model_card.toml").write_text("name = ")
    route = {"name": "chest-ct", "model": "ct-lung-density"}

    broken, well = check_models(settings(tmp_path, inference={"models_dirs": [tmp_path / "brought"]}, route=[route]))

    assert not broken.ok
    assert "not valid TOML" in broken.text
    assert well.ok


def test_what_can_be_used_and_should_be_changed_is_told_first(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        f'node.data_dir = "{tmp_path}"\ndicom.port = 0\napi.port = 0\n'
        '[[destination]]\nname = "files"\nkind = "folder"\npath = "out"\nport = 104\n'
    )

    first, second, *_ = run_checks(load_settings(file, {}))

    assert (first.name, first.ok) == ("settings", True)
    assert "'files': port is of no use for kind folder" in first.text
    assert second.name == "clock"


# --- certificates and keys ---


def write_certificate(path: Path, days: float) -> Path:
    """Write a certificate that ends in so many days, with its key."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=400)).not_valid_after(now + timedelta(days=days))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + private)
    path.chmod(0o600)  # as one must be that holds its key
    return path


@pytest.mark.parametrize(
    ("days", "ok", "told"),
    [(31, True, "valid until"), (29.5, False, ", 29 days from now"), (-1, False, "it has ended")],
)
def test_a_certificate_that_the_node_shows_anywhere_is_told_a_month_before_its_end(
    tmp_path: Path, days: float, told: str, *, ok: bool
) -> None:
    shown = {"client_certificate": write_certificate(tmp_path / "node.pem", days)}
    web, pacs = {"url": "https://there.local", **shown}, {"ae_title": "P", "host": "there.local", "tls": True, **shown}
    one = settings(
        tmp_path,
        dicom_tls={"certificate": shown["client_certificate"], "client_certificate": "none"},
        hl7={**HL7, "port": 0, "certificate": shown["client_certificate"], "client_certificate": "none"},
        api={"certificate": shown["client_certificate"]},
        destination=[
            {"name": "ehr", "kind": "fhir", **web},
            {"name": "pacs", "kind": "dicom", **pacs},
            {"name": "ris", "kind": "hl7", "host": "ris.local", "tls": True, **shown},
        ],
        source=[{"name": "web", "kind": "orthanc", **web}, {"name": "old", "kind": "dimse", **pacs}],
    )
    checks = check_certificates(one)
    names = [
        "[dicom_tls]",
        "[hl7]",
        "[api]",
        "destination ehr",
        "destination pacs",
        "destination ris",
        "source web",
        "source old",
    ]
    assert [check.name for check in checks] == [f"certificate of {name}" for name in names]
    for check in checks:
        assert (check.ok, told in check.text, bool(check.advice)) == (ok, True, not ok)


@pytest.mark.parametrize("section", ["dicom_tls", "hl7", "api"])
def test_a_certificate_with_the_key_of_another_is_told(tmp_path: Path, section: str) -> None:
    files = {"certificate": write_certificate(tmp_path / "node.pem", 99), "client_certificate": "none"}
    other = write_certificate(tmp_path / "other.pem", 99)
    more = {**HL7, "port": 0} if section == "hl7" else {}
    checks = check_certificates(settings(tmp_path, **{section: {**files, **more, "private_key": other}}))

    assert [(check.name, check.ok) for check in checks] == [
        (f"certificate of [{section}]", True),
        (f"key of [{section}]", False),
    ]
    assert "mismatch" in checks[1].text


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_what_is_no_certificate_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "node.pem").write_text(content, encoding="ascii")
    for file in (tmp_path / "node.pem", tmp_path / "none.pem"):
        assert not configured._check_certificate("certificate", file).ok


def test_the_keys_that_sign_in_are_told_with_their_names_and_a_bad_next_one_before_its_day(tmp_path: Path) -> None:
    made = write_new_key(tmp_path / "a.key", "ec")
    (tmp_path / "b.key").write_text("secret", encoding="ascii")
    (tmp_path / "b.key").chmod(0o600)
    ehr = {"name": "ehr", "kind": "fhir", "url": "https://ehr.local", "client_id": "ainode",
           "private_key": tmp_path / "a.key", "next_private_key": tmp_path / "b.key"}  # fmt: skip
    first, second = check_certificates(settings(tmp_path, destination=[ehr]))
    assert (first.ok, second.ok) == (True, False)
    assert f"ES384, kid {made.kid}" in first.text
    assert "b.key" in second.text
    assert "secret" not in second.text


@pytest.mark.parametrize(
    ("verify", "peers", "ok", "told"),
    [
        ("auto", ["CT1"], True, "is refused"),
        ("commitment", ["CT1"], False, "is refused"),
        ("commitment", ["CT1", "PACS"], True, ""),
        ("commitment", [], True, ""),
        ("query", ["CT1"], True, ""),
    ],
)
def test_a_pacs_whose_reports_of_commitment_would_be_refused_is_told(
    tmp_path: Path, verify: str, peers: list[str], ok: bool, told: str
) -> None:
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "10.1.2.5", "verify": verify}
    site = settings(tmp_path, destination=[pacs], peer=[{"ae_title": one, "host": "10.1.2.0/24"} for one in peers])
    (destination,) = destinations_of(site)
    answer = with_reports(Answer(True, "PACS answers"), destination, site)
    assert answer.ok is ok
    assert answer.text.startswith("PACS answers")
    assert answer.text.endswith(told or "answers")
    assert ("[[peer]]" in answer.advice) is not ok
