"""Settings: every default, every rule, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.settings import Settings, load_settings
from dicom_node.core.errors import SettingsError
from dicom_node.dimse.tls import Tls, tls_of

FOLDER = '[[destination]]\nname = "files"\nkind = "folder"\npath = "/tmp/x"\n'


def load(tmp_path: Path, text: str = "", **environment: str) -> Settings:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment)


def problem(tmp_path: Path, text: str = "", **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    assert "node.toml" in str(caught.value) or environment
    return str(caught.value)


def test_everything_has_a_default_and_listens_on_loopback_only() -> None:
    settings = load_settings(None, {})
    assert (settings.dicom.host, settings.api.host) == ("127.0.0.1", "127.0.0.1")
    assert settings.database_url.startswith("sqlite:///")
    assert [route.name for route in settings.route] == ["chest-ct", "chest-radiograph"]


def test_a_file_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    settings = load(tmp_path, "[dicom]\nport = 104\n")
    assert (settings.dicom.port, settings.dicom.max_associations) == (104, 64)
    assert len(settings.route) == 2


def test_a_list_in_the_file_replaces_the_default_list(tmp_path: Path) -> None:
    settings = load(tmp_path, '[[route]]\nname = "mine"\nmodel = "m"\n')
    assert [route.name for route in settings.route] == ["mine"]


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, "[dicom]\nport = 104\n", DICOM_NODE__DICOM__PORT="11113", OTHER="x")
    assert settings.dicom.port == 11113


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[dicom]\nprot = 104\n", "dicom.prot"),
        ("[dicmo]\nport = 104\n", "dicmo"),
        ("[dicom]\nport = 70000\n", "dicom.port"),
        ('[node]\nae_title = "SEVENTEEN_LETTERS"\n', "node.ae_title"),
        ('[node]\nae_title = "A\\\\B"\n', "node.ae_title"),
        ('[node]\nae_title = " X"\n', "node.ae_title"),
        ('[node]\ntime_zone = "Europe/Atlantis"\n', "Europe/Atlantis"),
        ('[node]\ntime_zone = "Europe"\n', "node.time_zone"),
        ('[node]\ntime_zone = "/etc/passwd"\n', "node.time_zone"),
        ('[[peer]]\nae_title = "CT1"\nhost = "ct1.local"\n', "peer.0"),
        ('[dicom]\nhost = "0.0.0.0"\n', "no [[peer]] is configured"),
        ('[dicom]\nhost = "10.1.2.3"\n', "no [[peer]] is configured"),
        ('[[destination]]\nname = "p"\nkind = "dicom"\n', "needs ae_title, host"),
        ('[[destination]]\nname = "p"\nkind = "fhir"\n', "needs url"),
        ('[[destination]]\nname = "p"\nkind = "carrier-pigeon"\n', "destination.0.kind"),
        (FOLDER * 2, "two destinations are named files"),
        ('[[route]]\nname = "r"\nmodel = "m"\n' * 2, "two routes are named r"),
        (FOLDER + '[[route]]\nname = "r"\nmodel = "m"\ndestinations = ["fiels"]\n', "known: files"),
        ('[[route]]\nname = "r"\nmodel = "m"\nquiet_period_s = 0\n', "route.0.quiet_period_s"),
        ("[inference]\nmax_attempts = 0\n", "inference.max_attempts"),
        ("port = [", "not valid TOML"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    assert told in problem(tmp_path, text)


def test_a_peer_list_allows_a_listener_for_other_machines(tmp_path: Path) -> None:
    settings = load(tmp_path, '[dicom]\nhost = "0.0.0.0"\n[[peer]]\nae_title = "CT1"\nhost = "10.1.2.9/24"\n')
    assert settings.dicom.host == "0.0.0.0"


@pytest.mark.parametrize("name", ["DICOM_NODE__DICOM__PROT", "DICOM_NODE__DICMO__PORT", "DICOM_NODE__PORT"])
def test_a_misspelt_variable_is_refused(tmp_path: Path, name: str) -> None:
    assert "Extra inputs are not permitted" in problem(tmp_path, "", **{name: "1"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file or directory. Check --config"):
        load_settings(tmp_path / "none.toml", {})


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[[destination]]\nname = "ehr"\nkind = "fhir"\nurl = "https://x"\ntoken = "s3cret"\npassword = "pw9"\n',
    )
    assert "s3cret" not in repr(settings)
    assert "pw9" not in settings.model_dump_json()


# --- TLS towards peers ---

PACS = 'ae_title = "PACS"\nhost = "pacs.local"\ntls = true\n'


@pytest.mark.parametrize(
    "text",
    [
        f'[[destination]]\nname = "pacs"\nkind = "dicom"\n{PACS}tls_server_name = "*"\n',
        f'[[source]]\nname = "pacs"\nkind = "dimse"\n{PACS}tls_server_name = "*"\n',
        '[[peer]]\nae_title = "CT1"\nport = 104\nport_tls = true\n',
    ],
)
def test_a_certificate_of_any_name_is_taken_from_an_authority_of_ones_own_only(tmp_path: Path, text: str) -> None:
    assert "dicom_tls.ca" in problem(tmp_path, text)
    load(tmp_path, f'[dicom_tls]\nca = "own-ca.pem"\n{text}')


def test_a_destination_trusts_the_nodes_authorities_unless_it_names_others(tmp_path: Path) -> None:
    pacs = f'[[destination]]\nname = "pacs"\nkind = "dicom"\n{PACS}'
    for more, ca, name in (
        ("", "own-ca.pem", "pacs.local"),
        ('tls_ca = "pacs-ca.pem"\ntls_server_name = "pacs"\n', "pacs-ca.pem", "pacs"),
    ):
        settings = load(tmp_path, f'{pacs}{more}[dicom_tls]\nca = "own-ca.pem"\ncertificate = "node.pem"\n')
        tls = tls_of(settings.destination[0], settings.dicom_tls)
        assert tls == Tls(name, Path(ca), Path("node.pem"))
    plain = load(tmp_path, pacs.replace("tls = true\n", ""))
    assert tls_of(plain.destination[0], plain.dicom_tls) is None
