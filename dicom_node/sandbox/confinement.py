"""What a worker process that runs other people's code may touch, and whether this system can hold it to that.

It reads the interpreter, the libraries, the node's code and what it is given; it writes into its own folder. It reaches
no network and no other process, and sees no variable of the environment that a computation does not need. Landlock
holds it to the files, a seccomp filter to the rest (`kernel_rules`); both only on Linux.

What remains: names, sizes and times of files can be asked for, results are the model's own, and a process that has
analysed one study may remember it while it analyses the next.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dicom_node.sandbox import kernel_rules
from dicom_node.sandbox.answers import LARGEST_FILE_BYTES

#: `[inference] confine`: as far as this system can; or not at all; or with all rights of the node.
Confine = Literal["auto", "require", "off"]

#: Of Landlock: older ones let a process cut off any file.
_LANDLOCK_WANTED = 3

#: Of the system: what interpreters, C libraries and drivers read. Not all of /etc, where settings and keys lie.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/opt/rocm", "/opt/cuda", "/nix/store", "/run/opengl-driver",
)  # fmt: skip
_SYSTEM_DATA = (
    "/sys", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime",
    "/etc/timezone", "/etc/fonts", "/var/cache/fontconfig", "/etc/mime.types", "/etc/OpenCL", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/devices", "/proc/filesystems", "/proc/modules",
    "/proc/version", "/proc/sys", "/proc/driver",
    f"/etc/python{sys.version_info.major}.{sys.version_info.minor}",
)  # fmt: skip
#: Locks between processes, and memory that they share.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_DEVICES = ("null", "zero", "full", "random", "urandom", "nvidia*", "dri", "kfd")
#: Variables, or beginnings of them, that shape a computation and hold no secret.
_KEPT = (
    "PATH", "LANG", "TZ", "LC_", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHON", "OMP_", "KMP_", "GOMP_", "MKL_",
    "OPENBLAS_", "NUMEXPR_", "MALLOC_", "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "TORCH_",
    "PYTORCH_", "ORT_", "MONAI_", "HF_HUB_OFFLINE", "NO_COLOR",
)  # fmt: skip
#: It has no account to look up.
_USER = "worker"
_CODE = frozenset({".py", ".so", ".zip", ".pth"})
_OWN_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Confinement:
    """A process's own folder, and what it may read beside the system and the code: folders of models.

    In `folder`, `inputs` is what it is given and may only read; `out` and `tmp` it may write.
    """

    folder: Path
    readable: tuple[Path, ...] = ()

    @property
    def inputs(self) -> Path:
        """What the process is given to read."""
        return self.folder / "inputs"

    @property
    def out(self) -> Path:
        """Where the process leaves what it made."""
        return self.folder / "out"

    @property
    def tmp(self) -> Path:
        """Its home and its place for temporary files; emptied when a process starts."""
        return self.folder / "tmp"

    def make_folders(self) -> None:
        """Make the folders, readable for the node's user only; `tmp` empty."""
        shutil.rmtree(self.tmp, ignore_errors=True)
        for one in (self.inputs, self.out, self.tmp):
            one.mkdir(parents=True, exist_ok=True, mode=0o700)

    def environment(self) -> dict[str, str]:
        """Return the variables of this process that the confined one gets, and its own home."""
        kept = {name: text for name, text in os.environ.items() if name.startswith(_KEPT)}
        home = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(self.tmp.absolute()))
        return kept | home | dict.fromkeys(("USER", "LOGNAME"), _USER)

    def as_text(self) -> str:
        """Return it as one argument of a command line, links followed; also those that stand for a model's folder."""
        linked = (one for path in self.readable if path.is_dir() for one in path.iterdir() if one.is_symlink())
        return json.dumps([str(path.resolve()) for path in (self.folder, *self.readable, *linked)])


def lacking() -> str:
    """Say what this system lacks to hold a process to its confinement; "" when it lacks nothing."""
    version = kernel_rules.landlock_version()
    lacks = []
    if not version:
        lacks.append("it has no Landlock (Linux 5.13, and landlock among the kernel's lsm)")
    elif version < _LANDLOCK_WANTED:
        lacks.append(f"its Landlock is version {version}, older than {_LANDLOCK_WANTED} (Linux 6.2)")
    if not kernel_rules.filters_calls():
        lacks.append("it filters no system calls (seccomp, on x86-64 or 64-bit ARM)")
    return "; ".join(lacks)


def told(confine: Confine) -> str:
    """Say for people whether the code of models is confined here, as a setting wants it."""
    lacks = lacking()
    if confine == "off":
        return 'not confined (confine = "off"): the code of a model has all rights of the node'
    if lacks:
        return f"not wholly confined, for this system lacks something: {lacks}"
    return "confined: the code of a model has no network and sees only models, its study and its own folder"


# --- in the child ----------------------------------------------------------------------------------------------------


def enter(text: str) -> None:
    """Confine this thread and all it starts as `Confinement.as_text` says, for good and as far as the system can.

    Threads that run already are not confined. Raises `OSError` when the kernel refuses what it offers.
    """
    folder, *readable = map(Path, json.loads(text))
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES))
    if kernel_rules.landlock_version():
        kernel_rules.restrict_files(list(_allowed(Confinement(folder, tuple(readable)))))
    if kernel_rules.filters_calls():
        kernel_rules.restrict_calls()


def _allowed(confinement: Confinement) -> Iterator[tuple[Path, int]]:
    libraries = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    yield from ((Path(path), kernel_rules.RUN) for path in (*_SYSTEM, *libraries, *_interpreter()))
    yield from ((Path(path), kernel_rules.READ) for path in _SYSTEM_DATA)
    yield from ((path, kernel_rules.READ) for path in (*confinement.readable, confinement.inputs))
    yield from ((path, kernel_rules.USE_DEVICE) for name in _DEVICES for path in Path("/dev").glob(name))
    yield Path(_SHARED_MEMORY), kernel_rules.SHARE
    yield from ((path, kernel_rules.WRITE) for path in (confinement.out, confinement.tmp))
    yield from ((path, kernel_rules.READ) for package in _packages_elsewhere() for path in (package, *_links(package)))
    for root in {Path(entry).resolve() for entry in sys.path if entry}:
        found = list(_code_in(root))
        # Python looks into a folder before it imports from it; what is not code there stays unreadable.
        yield from [(root, kernel_rules.LIST)] if found else []
        yield from ((path, kernel_rules.READ) for path in found)


def _interpreter() -> Iterator[str]:
    places = sysconfig.get_paths()
    yield from (places[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield str(Path(sys.executable).resolve().parent)
    for prefix in {sys.prefix, sys.base_prefix}:
        yield from (f"{prefix}/{name}" for name in ("bin", "lib", "lib64", "pyvenv.cfg"))


def _code_in(root: Path) -> Iterator[Path]:
    """Return the modules and packages of a folder, and where links in a package lead: a working folder may be one that
    Python imports from, with more than code in it."""
    if root.is_file():
        yield root
        return
    for path in root.iterdir() if root.is_dir() else ():
        if path.suffix in _CODE or (path / "__init__.py").is_file():
            yield path
            yield from _links(path)


def _packages_elsewhere() -> Iterator[Path]:
    """Return the packages that may lie in no folder of `sys.path`: those installed to be edited in place (PEP 660),
    whose finder knows where they are. `make setup` installs the node so, and nobody must start it in its own folder."""
    yield _OWN_PACKAGE
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable___"):
            yield from map(Path, getattr(module, "MAPPING", {}).values())


def _links(path: Path) -> Iterator[Path]:
    yield from (link for link in path.iterdir() if link.is_symlink()) if path.is_dir() else ()
