"""`dicom-node smart-key`: the keys with which the node signs in to EHRs (SMART Backend Services)."""

from __future__ import annotations

import argparse

from dicom_node.cli.terminal import print_json
from dicom_node.deliver.connections.signing_keys import jwk_set, key_files, read_key, write_new_key
from dicom_node.deliver.kinds import destinations_of
from dicom_node.roles.settings import load_settings


def new(options: argparse.Namespace) -> int:
    """Make a key, and print the JWK Set to register; nothing that is there is written over."""
    print_json(jwk_set([write_new_key(options.file, options.type)]))
    return 0


def show(options: argparse.Namespace) -> int:
    """Print the public keys of these files, or of all that the settings name."""
    files = options.files or key_files(destinations_of(load_settings(options.config)))
    print_json(jwk_set(read_key(path) for path in files))
    return 0
