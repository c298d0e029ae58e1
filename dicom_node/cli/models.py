"""`dicom-node models list`: which models are found, and whether their files are those the card names."""

from __future__ import annotations

import argparse

from dicom_node.cli.terminal import print_json, print_table
from dicom_node.config.settings import load_settings
from dicom_node.errors import ModelUnavailable
from dicom_node.inference.cards import ModelCard, find_models


def list_models(options: argparse.Namespace) -> int:
    """List every model; the exit status is 1 when one is not as its card says."""
    cards = find_models(load_settings(options.config).models_dirs)
    rows = [_row(card) for _, card in sorted(cards.items())]
    if options.json:
        print_json(rows)
    else:
        print_table(list(rows[0]) if rows else ["name"], [list(row.values()) for row in rows])
    return 0 if all(row["verified"] == "yes" for row in rows) else 1


def _row(card: ModelCard) -> dict[str, str]:
    try:
        digest, verified = card.digest[:12], "yes"
    except ModelUnavailable as error:
        digest, verified = "", str(error)
    return {
        "name": card.name,
        "version": card.version,
        "runtime": card.runtime,
        "task": card.task,
        "digest": digest,
        "verified": verified,
        "folder": str(card.folder),
    }
