"""The steps of the image, taken without a container engine: its user's here, all of them in a bare Debian."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.support.install.bare_root import BareRoot, bare_root, layers_folder
from tests.support.install.containers import of_image
from tests.support.install.image import Replay, lent_environment, lent_places, stages
from tools.service_libraries import service_libraries


@pytest.fixture
def layers() -> Iterator[Path]:
    with layers_folder() as place:
        yield place


def test_the_image_has_the_user_and_the_folder_that_its_command_runs_with(layers: Path) -> None:
    root = BareRoot.over(Path("/"), layers / "runtime")
    replay = Replay()

    replay.build(stages()["runtime"], root, "ENV", "RUN")

    image = of_image()
    made = root.run("id --user dicom-node; id --group dicom-node; stat --format '%a %U %G' /var/lib/dicom-node")
    assert made.split() == [str(image.user), str(image.group), "700", "dicom-node", "dicom-node"]
    assert replay.environment()["DICOM_NODE__NODE__DATA_DIR"] == image.folder == "/var/lib/dicom-node"
    assert subprocess.run(["id", "dicom-node"], capture_output=True, check=False).returncode, "nothing is done here"


def test_a_step_that_fails_is_told(layers: Path) -> None:
    root = BareRoot.over(Path("/"), layers / "runtime")
    stage = stages()["runtime"]
    stage.steps[:] = [("RUN", "groupadd --gid 10001 one && groupadd --gid 10001 another")]

    with pytest.raises(AssertionError, match="10001"):
        Replay().build(stage, root)


@pytest.mark.campaign(only=True)  # minutes of network and disk
@pytest.mark.timeout(3600)
def test_every_step_of_the_image_can_be_taken_and_what_it_starts_is_well(layers: Path) -> None:
    lent = lent_environment()
    arguments = {"PIP_EXTRA_INDEX_URL": lent.get("PIP_EXTRA_INDEX_URL", "")}
    replay, places = Replay(arguments, lent), lent_places(lent)
    with bare_root() as base:
        # What the images have that the stages begin with.
        base.install("python3", "python3-venv", "iproute2")
        base.run("ln -s /usr/bin/python3 /usr/local/bin/python")
        for name in ("build", "viewer", "runtime"):
            root = BareRoot.over(base.path, layers / name, places)
            if name == "viewer":
                root.install("npm")
            replay.build(stages()[name], root)

        held = root / "opt/dicom-node/share/dicom-node"
        told = json.loads((held / "sbom.cdx.json").read_text(encoding="utf-8"))["components"]
        assert set(service_libraries()) <= {canonicalize_name(one["name"]) for one in told}
        assert {"LICENSE", "licences.md"} <= {one.name for one in held.iterdir()}
        assert (root / "opt/ohif/index.html").is_file()
        assert "well" in root.run(_started_and_asked(), **replay.environment())


def _started_and_asked() -> str:
    """What the engine does: the command as its user, in a network of its own, and the health check until it holds."""
    image = of_image()
    user = f"setpriv --reuid={image.user} --regid={image.group} --clear-groups --no-new-privs --bounding-set=-all"
    script = f"""
        ip link set lo up
        cd {image.folder}
        {user} {shlex.join(image.command)} >/var/log/node.log 2>&1 &
        for _ in $(seq 120); do
            if {user} sh -c {shlex.quote(image.probes["health"])}; then kill %1; wait %1; echo well; exit; fi
            sleep 1
        done
        cat /var/log/node.log
    """
    return f"unshare --net bash -c {shlex.quote(script)}"
