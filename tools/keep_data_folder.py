"""Keep a data folder of the version in the current folder: ``python -m tools.keep_data_folder tests/upgrades/VERSION``.

A node of that version is fed small studies, brought into as many states as there are, and killed. Written are its
folder packed, its settings, and what is in it, for ``tests/acceptance/test_upgrade.py``. Run it in a checkout of the
release; where that has no tools yet, with PYTHONPATH naming one that has them. Needs DCMTK's ``storescu``, and
``unshare`` of util-linux.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.kept_data.facts import forget_the_processor, manifest, pack
from tools.kept_data.images import Modality, images, uid, with_other_pixels, write
from tools.kept_data.node import KeptNode, ehr_without_patients, free_ports, picky_pacs, silent_pacs, wait_until

_SITE = Path(__file__).with_name("kept_data") / "site"
_PORTS = ("MODALITY_PORT", "PACS_PORT", "PICKY_PORT", "ARCHIVE_PORT", "EHR_PORT", "SOURCE_PORT")
_FOLDERS = {"DATA": "data", "MODELS": "models", "RESULTS": "results", "WATCHED": "watched"}
#: What the node's own systems have taken long ago, and what is only a door, is not kept.
_PACKED = ("data", "models")
_FAILS, _TAKES_LONG = {"Rows": 40}, {"Rows": 48}
_log = logging.getLogger("keep_data_folder")


def main() -> None:
    """Keep a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write to, such as tests/upgrades/0.1.0")
    out = parser.parse_args().out.resolve()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for talkative in ("pynetdicom", "httpx"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kept-") as folder:
        story = Story(Path(folder))
        story.tell()
        facts = {"version": _version(), **manifest(story.data_dir, story.studies, story.modality)}
        pack(Path(folder), _PACKED, out / "data.tar.xz")
    (out / "manifest.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(_SITE / "node.toml", out / "node.toml")
    _log.info("%s: %d bytes", out / "data.tar.xz", (out / "data.tar.xz").stat().st_size)


def _version() -> str:
    found = re.search(r'__version__ = "([^"]+)"', Path("dicom_node", "__init__.py").read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit("run this in a checkout of the version to keep")
    return found[1]


def _example(block: str) -> str:
    """Return a block of the model in Python that this version's documentation shows: what a site copies must go on."""
    page = Path("docs", "model-card.md").read_text(encoding="utf-8").partition('## `runtime = "python"`')[2]
    return page.partition(f"```{block}\n")[2].partition("```")[0]


class Story:
    """What happens to the node, in order."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ports = free_ports(*_PORTS)
        self.data_dir = root / "data"
        self.studies: dict[str, str] = {}
        self.modality = Modality("KEPTNODE", root / "sent")
        config = root / "node.toml"
        config.write_text(self._settings(), encoding="utf-8")
        self._node = KeptNode(config, self.data_dir, root / "models")

    def tell(self) -> None:
        """Live through it; the node is dead afterwards."""
        self._bring_models()
        self._decide_on_models()
        (self._root / "watched").mkdir()
        with self._peers():
            self.modality.port = self._node.start()
            try:
                self._report()
                self._turn_away()
                self._leave_open()
                self._receive_without_filing()
            finally:
                self._node.kill()

    def _settings(self) -> str:
        text = (_SITE / "node.toml").read_text(encoding="utf-8")
        places = {name: str(self._root / folder) for name, folder in _FOLDERS.items()}
        for name, value in (*places.items(), *self._ports.items()):
            text = text.replace(f"@{name}@", str(value))
        return text

    @contextmanager
    def _peers(self) -> Iterator[None]:
        """Open those peers that refuse or say nothing; all others are away."""
        with ExitStack() as stack:
            stack.enter_context(picky_pacs(self._ports["PICKY_PORT"]))
            stack.enter_context(ehr_without_patients(self._ports["EHR_PORT"]))
            stack.enter_context(silent_pacs(self._ports["SOURCE_PORT"]))
            yield

    def _study(self, name: str) -> str:
        return self.studies.setdefault(name, uid("study", name))

    # --- models ---

    def _bring_models(self) -> None:
        """Lay models beside the node: modules, and folders with cards; one waits to be added."""
        models = self._root / "models"
        card = (_SITE / "model_card.toml").read_text(encoding="utf-8")
        for place, name in ((self._root, "site-score"), (models, "site-shadow"), (models, "site-withdrawn")):
            (place / name).mkdir(parents=True)
            (place / name / "model_card.toml").write_text(card.replace("@NAME@", name), encoding="utf-8")
        shutil.copyfile(_SITE / "site_score.py", models / "site_score.py")
        (models / "ct-mean").mkdir()
        (models / "ct-mean" / "model_card.toml").write_text(_example("toml model_card.toml"), encoding="utf-8")
        (models / "ct_mean.py").write_text(_example("python ct_mean.py"), encoding="utf-8")
        self._node.command("models", "add", str(self._root / "site-score"))

    def _decide_on_models(self) -> None:
        for name in ("site-score", "site-shadow", "site-withdrawn", "ct-mean"):
            self._node.command("models", "accept", name)
        self._node.command("models", "activate", "site-score", "--without-golden")
        self._node.command("models", "accept", "site-withdrawn", "--withdraw")
        forget_the_processor(self.data_dir)

    # --- studies that have come to an end ---

    def _report(self) -> None:
        """Report a study, in the light and in the shadow; another one twice, since an image of it came late."""
        reported = images("reported", 2, SeriesDescription="Shadowed")
        revised = images("revised", 2)
        self.modality.send(reported)
        self.modality.send(revised[:1])
        self._wait_for("reported", "REPORTED")
        self._wait_for("revised", "REPORTED")
        self.modality.send(revised[1:])
        self.modality.send([with_other_pixels(reported[1])])
        self._wait_for("revised", "REPORTED", revision=2)
        self.modality.ask_for_commitment(reported)
        wait_until(lambda: len(self._node.commitments()) == 1, "the request for commitment to be filed")
        wait_until(lambda: self._is_told("reported") and self._is_told("revised"), "all to be tried")

    def _is_told(self, name: str) -> bool:
        """Tell whether every destination has taken, refused or missed what it is owed."""
        wanted = {"files": "SENT", "pacs": "PENDING", "picky": "PARKED", "archive": "PENDING", "ehr": "PARKED"}
        owed = self._node.study(self._study(name))["deliveries"]
        held_back = {"SR", "REJECT"}  # they wait for what they refer to, or for what replaces the earlier ones
        return {one["destination"] for one in owed} == set(wanted) and all(
            one["state"] == wanted[one["destination"]] and (one["attempts"] or one["artifact_kind"] in held_back)
            for one in owed
        )

    def _turn_away(self) -> None:
        """Let studies end without a finding: one nobody wants, too few slices, models that may not run or that fail."""
        watched = images("unwanted", 1, StudyDescription="Foot")
        write(watched, self._root / "watched" / "tray")
        self.modality.send(images("few", 2, Modality="CT", StudyDescription="Lungs"))
        self.modality.send(images("withdrawn", 1, StudyDescription="Old model"))
        self.modality.send(images("failing", 1, **_FAILS))
        for name in ("few", "withdrawn", "unwanted"):
            self._wait_for(name, "NOT_ANALYSED")
        self.modality.note(watched)
        self._wait_for("failing", "FAILED")

    # --- studies and requests that have not ---

    def _leave_open(self) -> None:
        """Have one analysis run, two wait behind it, a retrieval hang, and a study still be on its way."""
        self._node.retrieve(self._study("fetched"), "old-pacs")
        self.modality.send(images("running", 1, **_TAKES_LONG))
        wait_until(lambda: self._jobs("running") == ["RUNNING"], "the analysis that takes long")
        self.modality.send(images("queued", 1))
        self.modality.send(images("described", 10, Modality="CT", StudyDescription="Mean"))
        wait_until(lambda: self._jobs("queued") == self._jobs("described") == ["QUEUED"], "two analyses to be queued")
        self.modality.send(images("receiving", 2, StudyDescription="Slow sender"))
        self._wait_for("receiving", "RECEIVING")

    def _receive_without_filing(self) -> None:
        """Answer senders while nothing is filed: what they were told stands in the journal only."""
        late = images("receiving", 3, StudyDescription="Slow sender")[2:]
        unseen = images("journalled", 2)
        large = images("journalled large", 1, StudyInstanceUID=self._study("journalled"), Rows=1024, Columns=512)
        self._node.pause()
        self.modality.send([*late, *unseen, *large], unfiled=True)
        self.modality.ask_for_commitment(unseen)

    # --- looking ---

    def _wait_for(self, name: str, state: str, **line: object) -> None:
        def is_there() -> bool:
            found: Mapping[str, object] = self._node.study(self._study(name))["study"]
            return found["state"] == state and all(found[key] == value for key, value in line.items())

        wait_until(is_there, f"{name} to be {state}")
        _log.info("%s is %s", name, state)

    def _jobs(self, name: str) -> list[str]:
        return [job["state"] for job in self._node.study(self._study(name))["jobs"]]


if __name__ == "__main__":
    main()
