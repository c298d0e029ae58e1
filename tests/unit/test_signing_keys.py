"""Keys of SMART Backend Services: which files are taken, what is said of others; only public parts are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc.jwk import ECKey, OctKey, RSAKey

from dicom_node.config.peers import SmartWebPeer, TokenWebPeer
from dicom_node.core.errors import SettingsError
from dicom_node.deliver.connections.oauth_server import _is_usable, _scopes, _seconds
from dicom_node.deliver.connections.signing_keys import jwk_set, key_files, read_key, write_new_key

RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-384")
#: What only the holder of a key may know (RFC 7518 6.2.2, 6.3.2).
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k"}


def file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "node.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def pem(key: Any, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    content: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return content


def jwk(key: RSAKey | ECKey, **more: str) -> bytes:
    return json.dumps({**key.as_dict(private=True), **more}).encode()


@pytest.mark.parametrize(
    ("content", "algorithm", "kid"),
    [
        (RSA.as_pem(private=True), "RS384", RSA.thumbprint()),
        (EC.as_pem(private=True), "ES384", EC.thumbprint()),
        (jwk(RSA), "RS384", RSA.thumbprint()),
        (jwk(EC, kid="key-of-2026"), "ES384", "key-of-2026"),
        (pem(RSA.raw_value), "RS384", RSA.thumbprint()),
    ],
    ids=["rsa-pem", "ec-pem", "rsa-jwk", "ec-jwk-with-kid", "rsa-pkcs8"],
)
def test_pem_and_jwk_are_read_and_shown_without_what_is_private(
    tmp_path: Path, content: bytes, algorithm: str, kid: str
) -> None:
    key = read_key(file(tmp_path, content))
    assert (key.algorithm, key.kid) == (algorithm, kid)
    (shown,) = jwk_set([key, key])["keys"]
    assert not PRIVATE & set(shown)
    assert (shown["kid"], shown["alg"], shown["use"]) == (kid, algorithm, "sig")


@pytest.mark.filterwarnings("ignore:Key size should be")
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no RSA or EC private key"),
        (b"\xff\xfe\x00", "holds no RSA or EC private key"),
        (b"{}", "holds no RSA or EC private key"),
        (b'{"kty": "RSA", "n": 5}', "holds no RSA or EC private key"),
        (b"[1]", "holds no RSA or EC private key"),
        (json.dumps(OctKey.generate_key(256).as_dict(private=True)).encode(), "holds no RSA or EC private key"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "holds no RSA or EC private key"),
        (RSA.as_pem(private=False), "holds a public key"),
        (json.dumps(EC.as_dict(private=False)).encode(), "holds a public key"),
        (ECKey.generate_key("P-256").as_pem(private=True), "curve P-256; SMART signs with P-384"),
        (pem(rsa.generate_private_key(65537, 1024)), "of 1024 bits; 2048 are needed"),
        (pem(RSA.raw_value, b"secret"), "under a passphrase"),
    ],
    ids=lambda one: one if isinstance(one, str) else "content",  # keys are others in each process
)
def test_what_is_no_key_to_sign_with_is_told_by_its_file_and_not_by_what_it_holds(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = file(tmp_path, content)
    with pytest.raises(SettingsError, match=told) as caught:
        read_key(path)
    assert str(path) in str(caught.value)
    held = content.decode("ascii", "replace").strip().splitlines()
    assert not any(line in str(caught.value) for line in held if len(line) > 8)


@pytest.mark.parametrize(("mode", "works"), [(0o600, True), (0o640, True), (0o604, False), (0o644, False)])
def test_a_key_that_every_user_can_read_is_refused_at_start_and_at_use(
    tmp_path: Path, mode: int, *, works: bool
) -> None:
    path = file(tmp_path, EC.as_pem(private=True), mode)
    peer: dict[str, Any] = {"url": "https://ehr", "client_id": "ainode", "private_key": path}
    if works:
        assert read_key(path).kid == EC.thumbprint()
        assert SmartWebPeer(**peer).private_key == path
        return
    for used in (lambda: read_key(path), lambda: SmartWebPeer(**peer)):
        with pytest.raises((SettingsError, ValueError), match="every user of this machine can read"):
            used()


def test_a_new_key_is_for_its_owner_alone_and_takes_the_place_of_none(tmp_path: Path) -> None:
    for kind, algorithm in (("rsa", "RS384"), ("ec", "ES384")):
        made = write_new_key(tmp_path / kind, kind)  # type: ignore[arg-type]
        assert (tmp_path / kind).stat().st_mode & 0o777 == 0o600
        assert (read_key(tmp_path / kind).kid, made.algorithm) == (made.kid, algorithm)
    with pytest.raises(SettingsError, match="File exists"):
        write_new_key(tmp_path / "rsa", "rsa")


def test_nothing_of_a_key_is_in_what_is_printed_of_it(tmp_path: Path) -> None:
    key = read_key(file(tmp_path, jwk(EC)))
    assert EC.as_dict(private=True)["d"] not in f"{key!r} {key}"


def test_the_keys_that_are_shown_are_those_of_the_settings_each_once(tmp_path: Path) -> None:
    first, second = (file(tmp_path, EC.as_pem(private=True)).rename(tmp_path / name) for name in ("a", "b"))
    peers = [
        SmartWebPeer(url="https://a", client_id="c", private_key=first, next_private_key=second),
        SmartWebPeer(url="https://b", client_id="c", private_key=first),
        TokenWebPeer(url="https://c"),
    ]
    assert key_files(peers) == (first, second)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({}, "system/Patient.rs system/Device.crs"),
        ({"scopes_supported": ["system/*.cruds", "system/*.read"]}, "system/Patient.rs system/Device.crs"),
        ({"scopes_supported": ["openid", "system/Patient.read", 5]},
         "system/Patient.read system/Device.read system/Device.write"),
        ({"capabilities": ["permission-v1"]}, "system/Patient.read system/Device.read system/Device.write"),
        ({"capabilities": ["permission-v1", "permission-v2"]}, "system/Patient.rs system/Device.crs"),
        ({"scopes_supported": "system/*.read", "capabilities": None}, "system/Patient.rs system/Device.crs"),
    ],
)  # fmt: skip
def test_scopes_are_asked_for_in_the_form_that_the_server_speaks(said: dict[str, Any], asked: str) -> None:
    assert _scopes([("Patient", "rs"), ("Device", "crs")], said) == asked


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://login/token", True), ("http://login/token", False), ("ftp://login", False), ("https://", False),
        ("https://a@login/token", False), ("https://login:x/", False), ("https://[", False), ("/token", False),
    ],
)  # fmt: skip
def test_a_server_over_https_names_no_token_endpoint_that_is_less_safe(url: str, *, usable: bool) -> None:
    assert _is_usable(url, below="https://ehr/fhir") is usable


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(300, 300), ("60", 60), (None, 300), (0, 300), (-5, 300), ("inf", 86400), ("nan", 300), (1e99, 86400), ([], 300)],
)
def test_whatever_a_server_says_of_the_life_of_a_token_is_a_time(said: object, seconds: float) -> None:
    assert _seconds(said) == seconds
