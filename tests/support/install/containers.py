"""What a container would start, read from the Dockerfile, the composed set-up and the manifest of a cluster."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.peers.process import Process
from tests.support.install.tree import InstalledTree
from tests.support.needs import REPOSITORY

MANIFEST = REPOSITORY / "deploy" / "kubernetes" / "dicom-node.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A command and what it is given; `probes` are shell commands (image) or paths and ports (cluster), by name."""

    command: Sequence[str]
    user: int
    group: int
    folder: str
    environment: Mapping[str, str]
    #: The text of the settings that are mounted, "" without.
    settings: str = ""
    probes: Mapping[str, Any] = field(default_factory=dict)


def of_image() -> Container:
    """What `docker run` starts: the last stage, with what the stages below it say."""
    stages: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, text in instructions((REPOSITORY / "Dockerfile").read_text(encoding="utf-8")):
        if instruction == "FROM":
            base, _, name = text.partition(" AS ")
            stages[name] = list(stages.get(base, []))
        elif name:
            stages[name].append((instruction, text))
    last = stages[name]
    said = dict(last)
    environment = dict(
        pair.split("=", 1) for word, text in last if word == "ENV" for pair in shlex.split(text) if "=" in pair
    )
    user, group = said["USER"].split(":")
    return Container(
        command=[*json.loads(said["ENTRYPOINT"]), *json.loads(said["CMD"])],
        user=int(user),
        group=int(group),
        folder=said["WORKDIR"],
        environment=environment,
        probes={"health": said["HEALTHCHECK"].partition("CMD ")[2]},
    )


def of_compose() -> Container:
    """What `docker compose up` starts as the node."""
    image = of_image()
    service = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["node"]
    mounted = dict(one.split(":")[:2][::-1] for one in service["volumes"])
    settings = REPOSITORY / mounted[service["command"][-1]]
    return Container(
        command=[image.command[0], *service["command"]],
        user=image.user,
        group=image.group,
        folder=image.folder,
        environment={**image.environment, **service["environment"]},
        settings=settings.read_text(encoding="utf-8"),
        probes=image.probes,
    )


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))


def of_cluster() -> Container:
    """What the pod of the manifest starts."""
    image = of_image()
    by_kind = {one["kind"]: one for one in manifests()}
    pod = by_kind["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    return Container(
        command=[image.command[0], *container["args"]],
        user=pod["securityContext"]["runAsUser"],
        group=pod["securityContext"]["runAsGroup"],
        folder=image.folder,
        environment=image.environment,
        settings=by_kind["ConfigMap"]["data"]["node.toml"],
        probes={name: (ports[one["port"]], one["path"]) for name, one in asked.items()},
    )


def instructions(text: str) -> list[tuple[str, str]]:
    whole = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    lines = [line for line in whole.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


# --- started here ------------------------------------------------------------------------------------------------

_OWN_NETWORK = 'ip link set lo up && exec "$@"'
_ASK = """
import sys, urllib.request as web
web.urlopen(web.Request(sys.argv[1], headers={"Host": sys.argv[2]}))
"""
#: A pod is asked by its address, not by that of the loopback.
_POD = "10.244.0.7"


class StartedContainer:
    """A container's command, as its user, with its environment, in a network of its own; its folders lie in `place`."""

    def __init__(self, container: Container, tree: InstalledTree, place: Path, environment: Mapping[str, str]) -> None:
        """`environment` stands for what lies in other containers."""
        self._container, self._tree, self._place = container, tree, place
        for name in ("data", "etc", "ohif"):
            (place / name).mkdir()
        os.chown(place / "data", container.user, container.group)
        # The viewer's own stage of the image fetches the published build; tests/viewer looks at that one.
        (place / "ohif/index.html").write_text("<!doctype html><html><head></head></html>", encoding="utf-8")
        (place / "etc/node.toml").write_text(container.settings, encoding="utf-8")
        self._given = {**{name: self._here(text) for name, text in container.environment.items()}, **environment}
        self._given["PATH"] = f"{tree.release}/bin:/usr/bin:/bin"
        program, *rest = container.command
        assert program == "dicom-node"
        command = self._as_user(*tree.program(*map(self._here, rest)))
        self.process = Process(["unshare", "--net", "sh", "-c", _OWN_NETWORK, "--", *command], place / "container.log")

    def wait_until_serving(self) -> None:
        self.process.wait_until_ready((self._place / "data/ports.json").exists, 180)

    def is_well(self, probe: str | tuple[int, str]) -> bool:
        """Ask what the engine or the cluster would ask."""
        asked = ("sh", "-c", probe) if isinstance(probe, str) else self._http(*probe)
        inside = ["nsenter", "--target", str(self.process.pid), "--net", *self._as_user(*asked)]
        return subprocess.run(inside, capture_output=True, check=False).returncode == 0

    def _http(self, port: int, path: str) -> tuple[str, ...]:
        return ("python", "-c", _ASK, f"http://127.0.0.1:{port}{path}", f"{_POD}:{port}")

    def _as_user(self, *command: str) -> list[str]:
        who = [f"--reuid={self._container.user}", f"--regid={self._container.group}", "--clear-groups"]
        given = [f"{name}={text}" for name, text in self._given.items()]
        return ["setpriv", *who, "--no-new-privs", "--bounding-set=-all", "env", "-i",
                f"--chdir={self._here(self._container.folder)}", *given, *command]  # fmt: skip

    def _here(self, text: str) -> str:
        """Return where a path of the container lies here."""
        for there, here in (("/var/lib/dicom-node", "data"), ("/etc/dicom-node", "etc"), ("/opt/ohif", "ohif")):
            text = text.replace(there, str(self._place / here))
        return text
