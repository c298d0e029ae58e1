"""The commands that the documentation shows: read from its blocks, and a table of those not run here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import dedent

from tests.support.needs import REPOSITORY

#: All of it but what was said of earlier versions.
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "orthanc").glob("*.md")])
PAGES.remove(REPOSITORY / "CHANGELOG.md")
_BLOCK = re.compile(r"^( *)```(sh|console)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "


@dataclass(frozen=True, slots=True)
class Block:
    """A block of commands: its page, and the script that a reader would type."""

    page: str
    script: str

    @property
    def first(self) -> str:
        """The first command without its remark; blocks are known by it."""
        return self.script.splitlines()[0].partition("  #")[0].strip()


#: First command of a block → why it is not run here. A block that is not in this table is run, and must succeed.
NOT_RUN: Mapping[str, str] = {
    "make setup": "sets up an environment; what the other targets run, CI runs",
    "make viewer": "fetches 48 MB; tests/viewer does so",
    "make demo": "sets up an environment; tests/acceptance run the demonstration",
    ".venv/bin/dicom-node serve --config node.toml": "serves until told to stop; what the others speak to",
    "python3 receiver.py webhook-secret 8090": "serves until told to stop; tests/integration/test_webhook.py runs it",
    'curl -s --cacert tls/api.pem -H "Authorization: Bearer $TOKEN" https://localhost:8042/api/status': "needs an "
    "API that speaks TLS; tests/integration/test_api_front_pages.py runs it",
    "apt install make python3 python3-venv": "installs a service; tests/acceptance/test_installed.py installs its tree",
    "editor /etc/dicom-node/node.toml": "needs an installed service",
    "make deb": "makes a package of 300 MB; tests/acceptance/test_bare_debian.py makes one",
    "apt install ./dicom-node_0.2.0_amd64.deb": "installs a service; tests/acceptance/test_bare_debian.py does so",
    "systemctl disable --now dicom-node": "needs an installed service; tests/acceptance/test_bare_debian.py has one",
    "apt remove dicom-node": "removes a service; tests/acceptance/test_bare_debian.py does so",
    "python3 -m venv .venv": "sets up an environment; tests/integration/test_wheel.py installs the wheel",
    'dicom-node alarms acknowledge --config node.toml 7 --reason "a new disk comes on Monday"': "needs an alarm; "
    "tests/integration/test_alarms_shown.py acknowledges one",
    "make sbom": "installs an environment; tests/acceptance/test_installed.py makes one of an installed tree",
    "docker build --build-arg PIP_EXTRA_INDEX_URL=<index of CPU builds> --tag dicom-node:0.2.0 .": "needs a container "
    "engine; tests/acceptance/test_installed.py starts what the Dockerfile says",
    "kubectl apply --filename deploy/kubernetes/dicom-node.yaml": "needs a cluster; tests/integration/test_manifest.py "
    "holds it against the descriptions of Kubernetes",
    "make uninstall": "removes a service; tests/acceptance/test_installed.py removes its tree",
    "rm -rf /var/lib/dicom-node /var/backups/dicom-node /etc/dicom-node": "removes data and a user of the system",
    "systemctl stop dicom-node": "needs an installed service and systemd",
    "systemctl enable --now dicom-node": "needs systemd",
    ".venv/bin/pip install --constraint constraints.txt '.[inference,traces]'": ("installs; `make setup` does so"),
    "apt-get install --no-install-recommends prometheus": "installs packages of the system",
    "install -D -m 644 /opt/dicom-node/current/share/dicom-node/grafana/dicom-node.json "
    "/var/lib/grafana/dashboards/dicom-node.json": (
        "writes into a folder of the system; tests/integration/test_metrics.py asks what the dashboard asks"
    ),
    "journalctl -u dicom-node -o cat | grep 3f0e2f9c-6d0b-4d4e-9d39-6a3f1c1f7a55": "needs systemd",
    "cd dicom-node": "takes another version from a remote repository and restarts a service",
    "dicom-node models add --config node.toml CHECKPOINT.pt --card torchxrayvision-all": "needs the checkpoint of "
    "another project; tests/acceptance/test_eighteen_findings.py adds one of its form",
    "dicom-node models add --config node.toml model-zoo/models/lung_nodule_ct_detection --weights model.pt": "needs "
    "the folder and weights of another project; tests/integration/test_models_added.py adds such a folder",
    "dicom-node models add --config node.toml PACKAGE": "needs the package of another project; "
    "tests/integration/test_models_added.py adds one of its form",
    """curl -fsS -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\""": "needs a result that still "
    "holds and a reviewer's key; tests/integration/test_reviews_api.py sends decisions",
    'curl -fsS -X PUT "http://127.0.0.1:8042/api/v1/routes/chest-ct" -H "Authorization: Bearer $TOKEN" \\': "needs the "
    "version that the route has by then; tests/integration/test_route_edits.py writes routes so",
    "dicom-node retrieve --config node.toml 1.2.840.113619.2.55.3.604 --from pacs": "needs a PACS with that study",
}


def blocks() -> Iterator[Block]:
    """Every block of commands; of a `console` block only what stands behind a prompt."""
    for page in PAGES:
        for _, language, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
            lines = dedent(body).splitlines()
            if language == "console":
                lines = [line.removeprefix(_PROMPT) for line in lines if line.startswith(_PROMPT)]
            yield Block(page.name, "\n".join(lines))
