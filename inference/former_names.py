"""Module names of earlier versions that models may still import; each warns in the log and goes with the next version.

Installed in worker processes only, before the module of a model is imported (`runner`). Nothing of the node uses them.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_NODE = "dicom_node"
_INFERENCE = f"{_NODE}.inference"
_BUNDLE = f"{_INFERENCE}.runtimes.monai_bundle"
#: What a model could import in 0.1.0 or 0.2.0 and is elsewhere now, and where.
FORMER_NAMES: Mapping[str, str] = {
    **{f"{_NODE}.{name}": f"{_NODE}.core.{name}" for name in ("codes", "errors", "reasons", "uids")},
    f"{_NODE}.outputs": f"{_NODE}.core.outputs.artifact_kinds",
    f"{_NODE}.model": f"{_NODE}.core.entities",
    f"{_NODE}.terminology": f"{_NODE}.core.codes",
    f"{_INFERENCE}.anomaly.networks": f"{_INFERENCE}.anomaly.detector",
    **{f"{_INFERENCE}.explain.{name}": f"{_INFERENCE}.explain.methods" for name in ("cam", "occlusion", "rollout")},
    f"{_INFERENCE}.explain.regions": f"{_INFERENCE}.explain.maps",
    f"{_INFERENCE}.explain.scale": f"{_INFERENCE}.explain.maps",
    f"{_INFERENCE}.explain.voxels": f"{_INFERENCE}.explain.maps",
    f"{_INFERENCE}.images.age": f"{_INFERENCE}.images.card_gate",
    f"{_INFERENCE}.images.orientation": f"{_INFERENCE}.images.volume",
    f"{_INFERENCE}.images.radiograph": f"{_INFERENCE}.images.radiographs.radiograph",
    f"{_INFERENCE}.runtimes.bundle": f"{_BUNDLE}.model",
    f"{_INFERENCE}.runtimes.bundle_config": f"{_BUNDLE}.config",
    f"{_INFERENCE}.runtimes.bundle_input": f"{_BUNDLE}.inputs",
    f"{_INFERENCE}.runtimes.bundle_output": f"{_BUNDLE}.outputs",
    f"{_INFERENCE}.sharing": f"{_INFERENCE}.answers.inputs",
}

_log = logging.getLogger(__name__)


def present_name(module: str) -> str:
    """Return the name under which a module of the node is known now."""
    return FORMER_NAMES.get(module, module)


def install_former_names() -> None:
    """Let this process import by former names too. Once is enough; a name that exists is never replaced."""
    if not any(isinstance(one, _FormerNames) for one in sys.meta_path):
        sys.meta_path.append(_FormerNames())


class _FormerNames(MetaPathFinder):
    """Asked last, for what nobody else finds."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the signature of a finder
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Find a former name."""
        present = FORMER_NAMES.get(fullname)
        return None if present is None else ModuleSpec(fullname, _Alias(present))


class _Alias(Loader):
    """Gives the module under its present name."""

    def __init__(self, present: str) -> None:
        self._present = present

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the empty module to Python; `exec_module` puts the real one in its place."""

    def exec_module(self, module: ModuleType) -> None:
        _log.warning(
            "a model imports a module by its former name; the next version will not know it",
            extra={"former": module.__name__, "present": self._present},
        )
        sys.modules[module.__name__] = importlib.import_module(self._present)
