"""How the measured programs are started: the node, and Orthanc beside it, each on loopback in a folder of its own."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

from tests.peers.process import free_port


def listens(port: int) -> bool:
    """Tell whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def node_command(folder: Path, dicom_port: int, more: str = "") -> list[str]:
    """Return the command that runs a node with its data in `folder`; `more` is further configuration."""
    configuration = folder / "node.toml"
    data_dir = folder / "node"
    configuration.write_text(
        f'[node]\ndata_dir = "{data_dir}"\nmin_free_mb = 0\n[dicom]\nport = {dicom_port}\n[api]\nport = 0\n{more}'
    )
    return [sys.executable, "-m", "dicom_node", "serve", "--config", str(configuration)]


def orthanc_command(folder: Path, dicom_port: int) -> list[str]:
    """Return the command that runs Orthanc as shipped, with its data in `folder`."""
    configuration = folder / "orthanc.json"
    settings = {
        "DicomAet": "BENCHPACS",
        "DicomPort": dicom_port,
        "HttpPort": free_port(),
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomAlwaysAllowEcho": True,
    }
    configuration.write_text(json.dumps(settings))
    return ["Orthanc", str(configuration)]
