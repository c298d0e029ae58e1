"""Settings: every default, every rule, and errors that name the key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from dicom_node.core.errors import SettingsError
from dicom_node.deliver.kinds.dicom import DicomDestination
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.dimse.negotiation import Tls, tls_of
from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card
from dicom_node.roles.settings import SiteSettings, load_settings
from tests.support.needs import REPOSITORY

PACS = 'ae_title = "PACS"\nhost = "pacs.local"\ntls = true\n'
FOLDER = '[[destination]]\nname = "files"\nkind = "folder"\npath = "/tmp/x"\n'


def load(tmp_path: Path, text: str = "", **environment: str) -> SiteSettings:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment)


def problem(tmp_path: Path, text: str = "", **environment: str) -> str:
    """What is said of settings that cannot be used, each place without its folder; never in pydantic's words."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    told = str(caught.value)
    assert "node.toml" in told or environment
    assert not any(words in told for words in ("Input should", "Field required", "Extra inputs", "validation error"))
    return told.replace(f"{tmp_path}/", "")


def problems(tmp_path: Path, text: str, **environment: str) -> list[str]:
    head, *lines = problem(tmp_path, text, **environment).split("\n  ")
    assert head == "The settings cannot be used:"
    return lines


def test_everything_has_a_default_and_listens_on_loopback_only() -> None:
    settings = load_settings(None, {})
    assert (settings.dicom.host, settings.api.host) == ("127.0.0.1", "127.0.0.1")
    assert settings.database_url.startswith("sqlite:///")
    assert [route.name for route in settings.route] == ["chest-ct", "chest-radiograph"]


def test_a_default_route_wants_only_the_ages_its_model_can_answer_for() -> None:
    for route in load_settings(None, {}).route:
        gate = load_card(SHIPPED_MODELS / route.model).gate
        ages = {"min": gate.min_age_years, "max": gate.max_age_years}
        if any(ages.values()):
            assert all(conditions["age_years"] == ages for conditions in route.when), route.name


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3"])
def test_metrics_beyond_loopback_need_a_list_of_who_may_ask(tmp_path: Path, host: str) -> None:
    text = f'[metrics]\nport = 9464\nhost = "{host}"\n'

    assert f"metrics.host {host} is reachable from other machines but metrics.allow names nobody" in problem(
        tmp_path, text
    )
    assert load(tmp_path, f'{text}allow = ["10.1.2.40"]\n').metrics.allow == ("10.1.2.40",)
    assert load(tmp_path, "[metrics]\nport = 9464\n").metrics.host == "127.0.0.1"


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


AE_TITLE = "an AE title is 1 to 16 letters of ASCII, without backslash and without blanks at its ends"
KINDS = "it must be one of dicom, dicomweb, fhir, hl7, folder, webhook"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[dicom]\nprot = 104\n", "2: dicom.prot is no key of [dicom]; did you mean port?"),
        ("[dicmo]\nport = 104\n", "1: dicmo is no key of the settings; did you mean dicom?"),
        ("[dicom]\n\nport = 70000\n", "3: dicom.port is 70000; it must be at most 65535"),
        ("dicom.port = -1\n", "1: dicom.port is -1; it must be at least 0"),
        ('[dicom]\nport = "a"\n', "2: dicom.port is 'a'; it must be a whole number"),
        ("[dicom]\nport = 1.5\n", "2: dicom.port is 1.5; it must be a whole number"),
        ("[dicom]\nport = true\n", "2: dicom.port is true; it must be a whole number"),
        ("[dicom]\npdu_timeout_s = true\n", "2: dicom.pdu_timeout_s is true; it must be a number"),
        ('[[peer]]\nae_title = "CT1"\nport = false\n', "3: peer.0.port is false; it must be a whole number"),
        ('[[route]]\nname = "r"\nmodel = "m"\nparameters = { threshold = true }\n', "4: "
         "route.0.parameters.threshold is true; it must be a number"),
        ("[dicom]\nplain = 2\n", "2: dicom.plain is 2; it must be true or false"),
        ("[dicom]\nhost = true\n", "2: dicom.host is true; it must be text in quotation marks"),
        ("[node]\ndata_dir = 1\n", "2: node.data_dir is 1; it must be the path of a file or folder, in "
         "quotation marks"),
        ("dicom = 1\n", "1: dicom is 1; it must be a table of keys"),
        ("peer = 1\n", "1: peer is 1; it must be a list"),
        ("[dicom_tls]\nhandshake_timeout_s = nan\n", "2: dicom_tls.handshake_timeout_s is nan; it must be a "
         "finite number"),
        ("[dicom]\nnetwork_timeout_s = inf\n", "2: dicom.network_timeout_s is inf; it must be a finite number"),
        ("[dicom]\nnetwork_timeout_s = 3e6\n", "2: dicom.network_timeout_s is 3000000.0; it must be at most 2000000"),
        ("[dicom]\ncommitment_retry_h = inf\n", "2: dicom.commitment_retry_h is inf; it must be a finite number"),
        ('[node]\ndata_dir = "a\\u0000b"\n', "2: node.data_dir: no path holds a NUL character"),
        ('[api]\ntoken_file = "a\\u0000b"\n', "2: api.token_file: no path holds a NUL character"),
        ('[nodes.deep.down]\nport = 1\n', "1: nodes is no key of the settings; did you mean node?"),
        ('[node]\nlog_level = "LOUD"\n', "2: node.log_level is 'LOUD'; it must be 'DEBUG', 'INFO', 'WARNING' or "
         "'ERROR'"),
        ('[node]\nae_title = "SEVENTEEN_LETTERS"\n', f"2: node.ae_title: {AE_TITLE}"),
        ('[node]\nae_title = "A\\\\B"\n', f"2: node.ae_title: {AE_TITLE}"),
        ('[node]\nae_title = " X"\n', f"2: node.ae_title: {AE_TITLE}"),
        ('[node]\ntime_zone = "Europe"\n', "2: node.time_zone: 'Europe' is no time zone this machine knows; use "
         "an IANA name such as Europe/Berlin"),
        ('[[peer]]\nae_title = "CT1"\nhost = "ct1.local"\n', "3: peer.0.host: give an IP address, a network "
         "such as 10.1.2.0/24, or any; names are not looked up"),
        ('[[peer]]\nae_title = "CT1"\ncertificate_sha256 = "AB:CD"\n', "3: peer.0.certificate_sha256: give the "
         "64 hexadecimal digits, in small letters and without colons"),
        ('[inference]\ndevice = "gpu"\n', "2: inference.device: it must be auto, cpu, mps, cuda, or one GPU as in "
         "cuda:1"),
        ("[inference]\nmax_attempts = 0\n", "2: inference.max_attempts is 0; it must be at least 1"),
        ('[dicom_tls]\ncertificate = "x.pem"\n', "1: dicom_tls.ca: set it, or client_certificate = "
         '"none" if peers need not show one'),
        ('[[destination]]\nname = "p"\nkind = "fhir"\n', "1: destination.0.url is missing; kind fhir needs it"),
        ('[[destination]]\nname = ""\nkind = "folder"\npath = "x"\n', "2: destination.0.name is ''; it must not "
         "be empty"),
        ('[[destination]]\nname = "p"\nkind = "carrier-pigeon"\n', "3: destination.0.kind is 'carrier-pigeon'; "
         + KINDS),
        ('[[destination]]\nname = "p"\nkind = "dicm"\n', f"3: destination.0.kind is 'dicm'; {KINDS} (did you mean "
         "dicom?)"),
        ('[[destination]]\nname = "p"\n', f"1: destination.0.kind is missing; {KINDS}"),
        ('[[destination]]\nname = "p"\nkind = "fhir"\nurl = "https://x"\ntokn = "s3cret"\n', "5: destination.0.tokn "
         "is no key of a destination of kind fhir; did you mean token?"),
        (f'[[destination]]\nname = "p"\nkind = "dicom"\n{PACS}tls_ca = "a"\nca = "b"\n', "8: destination.0.ca is "
         "another name of a key that is set as well; keep one of the two"),
        (FOLDER + 'outputs = { segmentation = "soft" }\n', "5: destination.0.outputs.segmentation is 'soft'; it "
         "must be 'binary', 'fractional', 'labelmap' or 'off'"),
        (FOLDER + "outputs.pdf = true\n", "5: destination.0.outputs.pdf is no key of [destination.outputs]; there "
         "are sr_sop_class, secondary_capture, segmentation, presentation_state, parametric_map, key_objects, "
         "encapsulated_pdf, rejection_note"),
        ('[[source]]\nname = "p"\nkind = "orthanc"\nurl = "https://x"\nport = true\nretrive = "get"\n', "6: "
         "source.0.retrive is no key of a source of kind orthanc; there are name, kind, timeout_s, url, username, "
         "password, password_file, ca, client_certificate, client_certificate_key, token, token_file"),
        ('[[route]]\nname = "r"\nmodel = "m"\nwhen = 5\n', "4: route.0.when: it must be a table of conditions, "
         '{ modality = "CT" }, or a list of such tables'),
        ('[[route]]\nname = "r"\nmodel = "m"\nquiet_period_s = 0\n', "4: route.0.quiet_period_s is 0; it must be "
         "more than 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_its_line_and_what_it_should_be(tmp_path: Path, text: str, told: str) -> None:
    assert problems(tmp_path, text) == [f"node.toml:{told}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[dicom]\nhost = "0.0.0.0"\n', "no [[peer]] is configured"),
        ('[dicom]\nhost = "10.1.2.3"\n', "no [[peer]] is configured"),
        (FOLDER * 2, "two destinations are named files"),
        ('[[route]]\nname = "r"\nmodel = "m"\n' * 2, "two routes are named r"),
        (FOLDER + '[[route]]\nname = "r"\nmodel = "m"\ndestinations = ["fiels"]\n', "known: files"),
    ],
)
def test_sections_that_do_not_fit_together_are_refused(tmp_path: Path, text: str, told: str) -> None:
    assert told in problem(tmp_path, text)


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        '[[destination]]\nname = "p"\nkind = "dicom"\ntokn = "s3cret"\n[dicom]\nport = "x"\nplian = true\n',
        DICOM_NODE__API__PORT="many",
    )
    assert [line.split(" ")[:2] for line in told] == [
        ["DICOM_NODE__API__PORT:", "api.port"],
        ["node.toml:1:", "destination.0.ae_title"],
        ["node.toml:1:", "destination.0.host"],
        ["node.toml:4:", "destination.0.tokn"],
        ["node.toml:6:", "dicom.port"],
        ["node.toml:7:", "dicom.plian"],
    ]


def test_the_errors_on_the_page_are_what_is_told(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    shown = page.partition("dicom-node: ")[2].partition("```")[0]
    text = (
        11 * "\n" + '[[destination]]\nname = "pacs"\nkind = "dicom"\nae_title = "PACS"\nhost = "h"\nport = 70000\n'
        '[[destination]]\nname = "ehr"\nkind = "fhir"\nurl = "https://x"\ntokn = "x"\n'
        '\n\n[[destination]]\nname = "old"\nkind = "dicm"\n'
    )
    assert problem(tmp_path, text, DICOM_NODE__API__PROT="8080") == shown.rstrip()


def test_a_secret_of_the_wrong_type_is_not_repeated(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, '[[destination]]\nname = "e"\nkind = "fhir"\nurl = "https://x"\ntoken = 8137\n')
    assert told == "node.toml:5: destination.0.token must be text in quotation marks"


def test_a_peer_list_allows_a_listener_for_other_machines(tmp_path: Path) -> None:
    settings = load(tmp_path, '[dicom]\nhost = "0.0.0.0"\n[[peer]]\nae_title = "CT1"\nhost = "10.1.2.9/24"\n')
    assert settings.dicom.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("DICOM_NODE__DICOM__PROT", "dicom.prot is no key of [dicom]; did you mean port?"),
        ("DICOM_NODE__DICMO__PORT", "dicmo is no key of the settings; did you mean dicom?"),
        ("DICOM_NODE__ROUTES", "routes is no key of the settings; did you mean route?"),
    ],
)
def test_a_misspelt_variable_is_refused_by_its_name(tmp_path: Path, name: str, told: str) -> None:
    assert problems(tmp_path, "", **{name: "1"}) == [f"{name}: {told}"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file or directory. Check --config"):
        load_settings(tmp_path / "none.toml", {})


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[[destination]]\nname = "ehr"\nkind = "fhir"\nurl = "https://x"\ntoken = "s3cret"\npassword = "pw9"\n'
        '[database]\nurl = "postgresql+psycopg2://node@db/node"\npassword = "pw8"\n',
    )
    for shown in (repr(settings), settings.model_dump_json()):
        assert not any(secret in shown for secret in ("s3cret", "pw9", "pw8"))


# --- TLS towards peers ---


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
        ("", "/own-ca.pem", "pacs.local"),
        ('tls_ca = "/pacs-ca.pem"\ntls_server_name = "pacs"\n', "/pacs-ca.pem", "pacs"),
        ('ca = "/pacs-ca.pem"\n', "/pacs-ca.pem", "pacs.local"),
    ):
        settings = load(tmp_path, f'{pacs}{more}[dicom_tls]\nca = "/own-ca.pem"\ncertificate = "/node.pem"\n')
        assert tls_of(pacs_of(settings), settings.dicom_tls) == Tls(name, Path(ca), Path("/node.pem"))
    plain = load(tmp_path, pacs.replace("tls = true\n", ""))
    assert tls_of(pacs_of(plain), plain.dicom_tls) is None


def test_a_destination_may_be_shown_a_certificate_of_its_own(tmp_path: Path) -> None:
    text = f'[[destination]]\nname = "pacs"\nkind = "dicom"\n{PACS}client_certificate = "/for-pacs.pem"\n'
    own = '[dicom_tls]\nca = "/own-ca.pem"\ncertificate = "/node.pem"\nprivate_key = "/node.key"\n'
    settings = load(tmp_path, text + own)
    assert tls_of(pacs_of(settings), settings.dicom_tls) == Tls(
        "pacs.local", Path("/own-ca.pem"), Path("/for-pacs.pem")
    )


def pacs_of(settings: SiteSettings) -> DicomDestination:
    (one,) = settings.destination
    assert isinstance(one, DicomDestination)
    return one


# --- keys of 0.1.0 that a kind has no use for ---


def test_a_key_that_was_ignored_is_ignored_for_one_version_more_and_told(tmp_path: Path) -> None:
    old = (
        '[[destination]]\nname = "ehr"\nkind = "fhir"\nurl = "https://x"\ntls_ca = "ca.pem"\nport = 104\n'
        '[[source]]\nname = "web"\nkind = "orthanc"\nurl = "http://x"\nretrieve = "move"\n'
    )
    settings = load(tmp_path, old)
    told = "is of no use for kind {} and is ignored, as before; the next version refuses it. Remove it."
    assert settings.remarks == (
        f"'ehr': tls_ca {told.format('fhir').replace('Remove it', 'Write ca for it')}",
        f"'ehr': port {told.format('fhir')}",
        f"'web': retrieve {told.format('orthanc')}",
    )
    assert (settings.destination[0].name, settings.source[0].name) == ("ehr", "web")


@pytest.mark.parametrize("key", ["client_certificate", "ca", "token_file", "patient_system"])
def test_a_key_that_0_1_0_refused_for_a_kind_is_refused(tmp_path: Path, key: str) -> None:
    kind = 'kind = "folder"\npath = "x"' if key != "token_file" else f'kind = "dicom"\n{PACS}'
    (told,) = problems(tmp_path, f'[[destination]]\nname = "there"\n{kind}\n{key} = "x"\n')
    assert f"destination.0.{key} is no key of a destination of kind" in told


# --- paths and secrets in files ---


def test_a_relative_path_in_the_file_is_relative_to_the_file_and_one_in_the_environment_to_where_the_node_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    text = '[node]\ndata_dir = "data"\n[inference]\nmodels_dirs = ["models", "/srv/models"]\n'
    settings = load(tmp_path / "etc", text, DICOM_NODE__DICOM_TLS__CA="ca.pem")
    assert settings.node.data_dir == tmp_path / "etc" / "data"
    assert settings.inference.models_dirs == (tmp_path / "etc" / "models", Path("/srv/models"))
    assert settings.dicom_tls.ca == Path("ca.pem")
    assert settings.remarks == ()


def test_a_variable_with_too_few_underscores_is_told_with_the_name_that_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, "", DICOM_NODE_DICOM_PORT="4711", DICOM_NODE_SCREENSHOTS="x")
    assert settings.dicom.port == 11112
    assert settings.remarks == (
        "the variable DICOM_NODE_DICOM_PORT is not read; did you mean DICOM_NODE__DICOM__PORT?",
    )


def test_data_that_0_1_0_laid_where_the_node_ran_is_found_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("etc", "run/data"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    settings = load(tmp_path / "etc", '[node]\ndata_dir = "data"\n')
    assert settings.node.data_dir.resolve() == tmp_path / "run" / "data"
    (told,) = settings.remarks
    assert told.startswith("data_dir = 'data' is used relative to the working directory")
    (tmp_path / "etc" / "data").mkdir()
    assert load(tmp_path / "etc", '[node]\ndata_dir = "data"\n').node.data_dir == tmp_path / "etc" / "data"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[node]\nport = [", "2: this is not valid TOML: Invalid value (at end of document)"),
        ("[node]\n\nport = 1\nport = 2\n", "4: this is not valid TOML: Cannot overwrite a value (at line 4, column 9)"),
        ("[node]\n[node]\n", "2: this is not valid TOML: Cannot declare ('node',) twice (at line 2, column 6)"),
        ("x = " + "[" * 3000 + "]" * 3000, "1: this is not valid TOML: it is nested too deeply"),
    ],
)
def test_a_text_that_is_not_toml_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    assert problems(tmp_path, text) == [f"node.toml:{told}"]


def test_a_file_that_an_editor_marked_as_utf8_is_read(tmp_path: Path) -> None:
    """Notepad puts a byte order mark in front, into files of secrets too."""
    (tmp_path / "t").write_text("t0ken\r\n", encoding="utf-8-sig")
    (ehr,) = load(tmp_path, "\ufeff" + EHR + 'token_file = "t"\r\n').destination
    assert isinstance(ehr, FhirDestination)
    assert ehr.token is not None
    assert ehr.token.get_secret_value() == "t0ken"


@pytest.mark.parametrize("token", ["two words", "line\nline", "größe", "tab\t"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(tmp_path: Path, token: str) -> None:
    (tmp_path / "t").write_text(token, encoding="utf-8")
    (told,) = problems(tmp_path, EHR + 'token_file = "t"\n')
    assert told.startswith("node.toml:1: destination.0.token: it holds characters that no bearer token has")
    assert token not in told


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://node:hush@db:port/x", "its port must be a number up to 65535"),
        ("mysql://node:hush@db/x", "it must begin with postgresql+psycopg2:// or sqlite:///"),
        ("postgres://node:hush@db/x", "it must begin with postgresql+psycopg2:// or sqlite:///"),
        ("hush", "it must begin with postgresql+psycopg2:// or sqlite:///"),
    ],
)
def test_a_database_that_no_node_can_use_is_refused_and_its_password_not_repeated(
    tmp_path: Path, url: str, why: str
) -> None:
    (told,) = problems(tmp_path, f'[database]\nurl = "{url}"\n')
    assert told == f"node.toml:2: database.url: {why}"


EHR = '[[destination]]\nname = "ehr"\nkind = "fhir"\nurl = "https://x"\n'


def test_secrets_are_read_from_files_of_their_own(tmp_path: Path) -> None:
    for name, text in (("token", "t0ken\n"), ("pass", "p w\r\n"), ("db", "p@ss/word\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o640)
    settings = load(
        tmp_path,
        EHR + 'token_file = "token"\nusername = "node"\npassword_file = "pass"\n'
        '[database]\nurl = "postgresql+psycopg2://node@db/node"\npassword_file = "db"\n'
        '[[user]]\nname = "ct"\npassword_file = "pass"\n',
    )
    (ehr,) = settings.destination
    assert isinstance(ehr, FhirDestination)
    assert ehr.token is not None
    assert ehr.password is not None
    assert (ehr.token.get_secret_value(), ehr.password.get_secret_value()) == ("t0ken", "p w")
    assert settings.user[0].password.get_secret_value() == "p w"
    assert make_url(settings.database_url).password == "p@ss/word"
    assert settings.remarks == ()


def test_a_password_of_a_database_may_hold_what_else_ends_a_host(tmp_path: Path) -> None:
    settings = load(tmp_path, '[database]\nurl = "postgresql://node:a/b[c?d@db:5432/node"\n')
    assert make_url(settings.database_url).password == "a/b[c?d"


def test_the_database_is_read_from_a_file_that_the_environment_names(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql+psycopg2://node:secret@db/node\n", encoding="utf-8")
    settings = load(tmp_path, DICOM_NODE__DATABASE__URL_FILE=str(file))
    assert settings.database_url == "postgresql+psycopg2://node:secret@db/node"


@pytest.mark.parametrize(
    ("line", "content", "told"),
    [
        ('token_file = "t"', None, "token_file: {}/t cannot be read: No such file or directory; make it a file that "
         "the node's user can read"),
        ('token_file = "t"', b"\n", "token_file: {}/t is empty; it must hold the secret and nothing else"),
        ('token_file = "t"', b"\xff", "token_file: {}/t cannot be read: it is not UTF-8 text; make it a file that the "
         "node's user can read"),
        ('token_file = "t"\ntoken = "u"', b"t", "token_file: token is set as well; keep one of the two"),
        ('password_file = "t"', b"t", "password_file: username is missing beside it"),
    ],
)  # fmt: skip
def test_a_secret_that_cannot_be_read_is_told_with_its_file_and_key(
    tmp_path: Path, line: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "t").write_bytes(content)
    text = told.format(tmp_path).replace(f"{tmp_path}/", "")
    assert problems(tmp_path, f"{EHR}{line}\n") == [f"node.toml:5: destination.0.{text}"]


def test_a_secret_that_everybody_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken", encoding="utf-8")
    (tmp_path / "token").chmod(0o644)
    (told,) = load(tmp_path, EHR + 'token_file = "token"\n').remarks
    assert (
        told == f"token_file: every user of this machine can read {tmp_path}/token; run: chmod o-rwx {tmp_path}/token"
    )


@pytest.mark.parametrize(
    ("section", "key"),
    [
        *((section, key) for section in ("dicom_tls", "hl7", "api") for key in ("certificate", "private_key", "ca")),
        ("api", "token_file"),
        ("people", "first_admin_file"),
        ("oidc", "ca"),
        ("oidc", "private_key"),
        ("oidc", "client_secret_file"),
        ("audit", "key_file"),
        ("audit", "anchor_file"),
        ("database", "url_file"),
    ],
)
@pytest.mark.parametrize("what", ["pipe", "/dev/zero", "."])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, section: str, key: str, what: str) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (told, *_) = problems(tmp_path, f'[{section}]\n{key} = "{what}"\n')
    assert f"{section}.{key}: " in told
    assert "it is no regular file" in told


@pytest.mark.parametrize("key", ["ca", "client_certificate", "client_certificate_key", "private_key", "token_file"])
def test_a_destination_with_a_pipe_for_a_file_is_refused(tmp_path: Path, key: str) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert any("it is no regular file" in told for told in problems(tmp_path, f'{EHR}{key} = "pipe"\n'))


def test_a_database_password_needs_a_user_in_the_url(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, '[database]\nurl = "postgresql://db/node"\npassword = "x"\n')
    assert told.startswith("node.toml:3: database.password: url must name a user without a password")


# --- SMART Backend Services and certificates ---


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('client_id = "c"', "client_id: private_key is missing beside it"),
        ('private_key = "node.key"', "private_key: client_id is missing beside it"),
        ('scopes = "system/*.rs"', "scopes: client_id is missing beside it"),
        ('client_id = "c"\nprivate_key = "node.key"\ntoken = "t"', "token: client_id and private_key are set as well"),
        ('client_id = "c"\nprivate_key = "none.key"', "private_key: none.key cannot be read: No such file"),
        ('client_id = "c"\nprivate_key = "open.key"', "private_key: every user of this machine can read"),
        ('client_id = "c"\nprivate_key = "node.key"\ntoken_url = "login"', "token_url: it must begin with https://"),
        ('client_id = "c"\nprivate_key = "node.key"\nscopes = "\\"x\\""', "scopes: a scope is made of ASCII letters"),
        ('client_certificate_key = "node.key"', "client_certificate_key: client_certificate is missing beside it"),
        ('client_certificate = "c.pem"\nclient_certificate_key = "open.key"', "client_certificate_key: every user"),
        ('client_certificate = "open.key"', "client_certificate: every user of this machine can read the private key"),
        ('client_certificate = "none.pem"', "client_certificate: none.pem cannot be read"),
    ],
)
def test_a_sign_in_that_cannot_work_is_told_by_its_key(tmp_path: Path, lines: str, told: str) -> None:
    for name, mode in (("node.key", 0o600), ("open.key", 0o644)):
        (tmp_path / name).write_text("key", encoding="ascii")
        (tmp_path / name).chmod(mode)
    text = f'[[destination]]\nname = "ehr"\nkind = "fhir"\nurl = "https://ehr"\n{lines}\n'
    assert any(told in one.replace(f"{tmp_path}/", "") for one in problems(tmp_path, text)), problems(tmp_path, text)


@pytest.mark.parametrize("kind", ["fhir", "dicomweb"])
@pytest.mark.parametrize("key", ["ca", "client_certificate"])
def test_certificates_where_none_is_shown_are_refused(tmp_path: Path, kind: str, key: str) -> None:
    (tmp_path / "x.pem").touch(0o600)
    text = f'[[destination]]\nname = "ehr"\nkind = "{kind}"\nurl = "http://ehr"\n{key} = "x.pem"\n'
    (told,) = problems(tmp_path, text)
    assert f"{key}: url begins with http://" in told


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[reports]\nhl7 = true\n", "reports.hl7 = true needs the HL7 listener: set hl7.port"),
        ('[reports]\nfhir = "files"\n' + FOLDER, "reports.fhir = 'files' is no destination of kind fhir"),
        ("[reports]\nlanguages = []\n", "reports.languages"),
        ('[reports]\nlanguages = ["fr"]\n', "reports.languages"),
        ("[reports]\nkeep_text_days = -1\n", "reports.keep_text_days"),
    ],
)
def test_reports_come_from_somewhere_and_in_a_language_that_is_read(tmp_path: Path, text: str, what: str) -> None:
    assert what in problem(tmp_path, text)


def test_no_report_comes_and_no_text_is_kept_unless_the_site_says_so() -> None:
    reports = load_settings(None, {}).reports
    assert (reports.hl7, reports.fhir, reports.keep_text_days) == (False, "", 0)
