"""pynetdicom's own server as it is meant to be used: each object into a file, synchronised, then the answer."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time


def main(port: int, folder: Path) -> None:
    """Serve until the process is ended."""
    folder.mkdir(parents=True, exist_ok=True)

    def on_store(event: Any) -> int:
        with (folder / f"{uuid.uuid4().hex}.dcm").open("wb") as file:
            file.write(event.encoded_dataset())
            file.flush()
            os.fsync(file.fileno())
        return 0x0000

    ae = AE(ae_title="PYNETDICOM")
    ae.maximum_pdu_size, ae.maximum_associations = 131072, 64
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, on_store)])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
