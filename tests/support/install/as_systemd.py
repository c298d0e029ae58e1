"""Start what a unit starts, held to what the unit says, where no systemd runs::

    unshare --mount --ipc --uts python -m tests.support.install.as_systemd UNIT ROOT USER [drop-in …]

The tree was installed below ROOT (DESTDIR). The file system is read only but for the state folder, the rights, the
limits, the environment and the system calls are those of the unit. What only systemd itself can give is left out: its
control group, a /dev of its own, and the user namespace.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.install.unit_file import UnitFile

_NO_NEW_PRIVILEGES, _DROP_FROM_BOUNDING_SET = 38, 24  # prctl(2)
_CAPABILITIES = 64
_LIBC = ctypes.CDLL(None, use_errno=True)
#: libseccomp: what a filter does with a call, and how an argument is compared.
_LET, _REFUSE = 0x7FFF0000, 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7
_NEW_NAMESPACES = 0x7E020000
#: What systemd gives a service beside what its unit names.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint), ("how", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64),
    )  # fmt: skip


def start(unit: UnitFile, root: Path, user: str) -> None:
    """Become the service. Does not return."""
    account = pwd.getpwnam(user)
    state = root / "var/lib" / unit.last("StateDirectory")
    calls = unit.allowed_calls()
    os.chown(state, account.pw_uid, account.pw_gid)
    state.chmod(int(unit.last("StateDirectoryMode"), 8))
    if unit.last("ProtectSystem") == "strict":
        _make_read_only(state)
    command = [str(root / word[1:]) if word.startswith(("/opt/", "/etc/")) else word for word in unit.command]
    # Its first line names the place where the tree will lie.
    command.insert(0, str(Path(command[0]).with_name("python")))
    given = {name: value for name, value in os.environ.items() if name.startswith("DICOM_NODE__")}
    environment = {**_ENVIRONMENT, **given, "HOME": str(state), "USER": user, "LOGNAME": user}
    os.chdir(state)
    os.umask(int(unit.last("UMask"), 8))
    for key, which in (("LimitNOFILE", resource.RLIMIT_NOFILE), ("LimitCORE", resource.RLIMIT_CORE)):
        resource.setrlimit(which, (int(unit.last(key)),) * 2)
    _give_up_rights(unit, account)
    _filter(unit, calls)
    os.execve(command[0], command, environment)


def _make_read_only(state: Path) -> None:
    """Every mount but those of the kernel, and the state folder, which becomes one of its own."""
    _mount("--make-rprivate", "/")
    _mount("--bind", str(state), str(state))
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        place = line.split()[1]
        if not place.startswith(("/proc", "/sys", "/dev")) and Path(place) != state:
            _mount("-o", "remount,bind,ro", place)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _give_up_rights(unit: UnitFile, account: pwd.struct_passwd) -> None:
    assert unit.last("CapabilityBoundingSet") == "", "capabilities are kept in no test yet"
    for capability in range(_CAPABILITIES):
        _LIBC.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if unit.is_on("NoNewPrivileges"):
        _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _filter(unit: UnitFile, calls: set[str]) -> None:
    """Let through the calls of the unit; sockets of its families, and processes without namespaces of their own."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_REFUSE | errno.EPERM))
    families = [int(getattr(socket, name)) for name in unit.last("RestrictAddressFamilies").split()]
    rules: dict[str, list[_Comparison]] = {"socket": [_Comparison(0, _EQUAL, one, 0) for one in families]}
    if unit.is_on("RestrictNamespaces"):
        rules["clone"] = [_Comparison(0, _MASKED_EQUAL, _NEW_NAMESPACES, 0)]
    for name in calls:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0 or (name in {"unshare", "setns"} and unit.is_on("RestrictNamespaces")):
            continue  # of another architecture; or refused by another line of the unit
        if name == "clone3" and unit.is_on("RestrictNamespaces"):  # its flags lie where no filter looks
            seccomp.seccomp_rule_add_array(context, _REFUSE | errno.ENOSYS, number, 0, None)
            continue
        for comparison in rules.get(name, [None]):
            count = 0 if comparison is None else 1
            pointer = None if comparison is None else ctypes.byref(comparison)
            assert seccomp.seccomp_rule_add_array(context, _LET, number, count, pointer) == 0, name
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    start(UnitFile.read(Path(sys.argv[1]), *map(Path, sys.argv[4:])), Path(sys.argv[2]), sys.argv[3])
