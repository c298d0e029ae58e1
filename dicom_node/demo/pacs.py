"""A second local application entity that plays the PACS: it stores whatever it is sent into a folder."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.core.uids import is_valid_uid
from dicom_node.end import End

AE_TITLE = "DEMOPACS"
_SUCCESS, _CANNOT_UNDERSTAND = 0x0000, 0xC000


def serve(folder: Path, port: int = 0) -> None:
    """Listen on loopback until SIGTERM; the port stands in `folder/port` once it is open."""
    folder.mkdir(parents=True, exist_ok=True)
    ae = AE(ae_title=AE_TITLE)
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, _store, [folder])])
    assert server is not None
    (folder / "port").write_text(str(server.server_address[1]))
    End().wait()
    ae.shutdown()


def _store(event: Any, folder: Path) -> int:
    """Keep the object under its SOP Instance UID, whole or not at all."""
    uid = str(event.request.AffectedSOPInstanceUID)
    if not is_valid_uid(uid):
        return _CANNOT_UNDERSTAND
    part = folder / f"{uid}.part"
    part.write_bytes(event.encoded_dataset())
    part.replace(folder / f"{uid}.dcm")
    return _SUCCESS


def main() -> int:
    """Run from the command line: ``python -m dicom_node.demo.pacs FOLDER [--port N]``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("pynetdicom").setLevel(logging.ERROR)
    serve(options.folder, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
