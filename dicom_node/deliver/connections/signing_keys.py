"""Keys by which the node signs in (SMART Backend Services): read from their files, made anew, shown as a JWK Set.

Private keys stay in this module; what is shown is public, and no message repeats what a file holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from dicom_node.config.peers import SmartWebPeer
from dicom_node.config.section import require_private
from dicom_node.core.errors import SettingsError

#: What SMART asks of both sides (App Launch 2.2, "Client authentication: asymmetric").
Algorithm = Literal["RS384", "ES384"]
#: NIST SP 800-57: no less is signed with.
_SHORTEST_RSA_BITS = 2048
_NEW_RSA_BITS = 3072
_CURVE = "P-384"
_MAKE_ONE = "Make one: dicom-node smart-key new FILE"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; `kid` is its name for the server: that in its JWK, else its thumbprint (RFC 7638)."""

    kid: str
    algorithm: Algorithm
    _key: RSAKey | ECKey = field(repr=False)

    def signed(self, claims: Mapping[str, Any]) -> str:
        """Return the claims as a JWT (RFC 7519)."""
        header = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid}
        return jwt.encode(header, dict(claims), self._key, algorithms=[self.algorithm])

    def public_jwk(self) -> dict[str, Any]:
        """Return the public key (RFC 7517) with its name and what it is for."""
        shown = self._key.as_dict(private=False)
        return {**shown, "kid": self.kid, "use": "sig", "alg": self.algorithm, "key_ops": ["verify"]}


def read_key(path: Path) -> SigningKey:
    """Read a private key, PEM or JWK. Raises `SettingsError`, which names the file and nothing of what it holds."""
    try:
        require_private(path)
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"The private key cannot be used: {why}.") from None
    return _checked(_parsed(content, path), path)


def write_new_key(path: Path, kind: Literal["rsa", "ec"]) -> SigningKey:
    """Make a key, and write it (PEM, PKCS #8) into a new file that only its owner can read.

    Raises `SettingsError` where the file exists or cannot be written.
    """
    key = RSAKey.generate_key(_NEW_RSA_BITS) if kind == "rsa" else ECKey.generate_key(_CURVE)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, opened with its mode
            file.write(key.as_pem(private=True))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        advice = "Name a file that does not exist, in a folder you may write to; a key in use is never replaced."
        raise SettingsError(f"{path} cannot be written: {error.strerror}. {advice}") from error
    return _checked(key, path)


def jwk_set(keys: Iterable[SigningKey]) -> dict[str, Any]:
    """Return the public keys as a JWK Set (RFC 7517 5), each once."""
    return {"keys": list({key.kid: key.public_jwk() for key in keys}.values())}


def key_files(peers: Iterable[object]) -> tuple[Path, ...]:
    """Return the files of the keys with which the node signs in at these peers, each once."""
    of_peers = [(one.private_key, one.next_private_key) for one in peers if isinstance(one, SmartWebPeer)]
    return tuple(dict.fromkeys(path for paths in of_peers for path in paths if path is not None))


def _parsed(content: bytes, path: Path) -> RSAKey | ECKey:
    try:
        jwk = json.loads(content)
    except (ValueError, RecursionError):
        jwk = None
    for kind in (RSAKey, ECKey):
        try:
            return kind.import_key(content if jwk is None else jwk)
        except TypeError as error:
            if "encrypted" in str(error):
                raise SettingsError(
                    f"The private key in {path} is under a passphrase, which the node has nobody to ask for. "
                    "Write it without one into a file that only the node's user can read."
                ) from None
        except (ValueError, KeyError, AttributeError, JoseError):
            continue
    raise SettingsError(f"{path} holds no RSA or EC private key, as PEM or as one JWK. {_MAKE_ONE}")


def _checked(key: RSAKey | ECKey, path: Path) -> SigningKey:
    if not key.is_private:
        raise SettingsError(f"{path} holds a public key; the private one is needed to sign. {_MAKE_ONE}")
    kid = key.kid or key.thumbprint()
    if isinstance(key, ECKey):
        if key.curve_name != _CURVE:
            raise SettingsError(
                f"{path} holds an EC key of curve {key.curve_name}; SMART signs with {_CURVE} (ES384). "
                f"{_MAKE_ONE} --type ec"
            )
        return SigningKey(kid, "ES384", key)
    if key.raw_value.key_size < _SHORTEST_RSA_BITS:
        raise SettingsError(
            f"{path} holds an RSA key of {key.raw_value.key_size} bits; {_SHORTEST_RSA_BITS} are needed. {_MAKE_ONE}"
        )
    return SigningKey(kid, "RS384", key)
