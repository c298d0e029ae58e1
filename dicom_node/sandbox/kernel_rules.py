"""What Linux lets a process give up for good: files, by Landlock, and system calls, by a seccomp filter.

Landlock (landlock(7), kernel 5.13 and later) leaves only the files that are named. The filter (seccomp(2), classic BPF,
x86-64 and 64-bit ARM) closes what Landlock does not see. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_NO_NEW_PRIVILEGES = 38  # prctl(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


def _give_up_privileges() -> None:
    """Gain none by running a program, either; the kernel wants that first."""
    if _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


# --- Landlock: its three system calls have the same numbers on every architecture ------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
#: Everything that version 1 can forbid: also to make and to remove whatever a folder can hold.
_VERSION_1 = (1 << 13) - 1
#: What later versions can forbid beside: version, right. Before 3, a file could still be cut off.
_LATER = ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEVICE))
_TCP, _TCP_SINCE = 0b11, 4  # to bind and to connect
_SIGNALS_AND_ABSTRACT_SOCKETS, _SCOPES_SINCE = 0b11, 6  # of processes outside
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

READ = _READ_FILE | _READ_DIR
RUN = READ | _EXECUTE
LIST = _READ_DIR
#: Files whose names one knows or has made.
SHARE = _READ_FILE | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
USE_DEVICE = READ | _WRITE_FILE | _IOCTL_DEVICE
#: No devices, no pipes, no sockets, and no programs of its own making.
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER | _TRUNCATE


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def landlock_version() -> int:
    """Return the version of Landlock that the kernel offers; 0 where it has none or it is switched off."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))))


def restrict_files(allowed: Iterable[tuple[Path, int]]) -> None:
    """Keep this thread, and all it starts, to these rights beneath these paths; those that do not exist are passed
    over. TCP goes, too, and signals to others, where the kernel knows how.

    Raises `OSError` where it does not do it.
    """
    known = landlock_version()
    handled = _VERSION_1 | sum(right for since, right in _LATER if known >= since)
    wanted = _Ruleset(handled, _TCP, _SIGNALS_AND_ABSTRACT_SOCKETS)
    size = 8 * (1 + (known >= _TCP_SINCE) + (known >= _SCOPES_SINCE))
    ruleset = _called(_CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path, rights in allowed:
            _allow(ruleset, path, rights & handled)
        _give_up_privileges()
        _called(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _Beneath(rights if path.is_dir() else rights & _OF_A_FILE, place)
        _called(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(place)


def _called(number: int, *arguments: object) -> int:
    answer = int(_LIBC.syscall(number, *arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"landlock: {os.strerror(ctypes.get_errno())}")
    return answer


# --- seccomp ---------------------------------------------------------------------------------------------------------

_ASK_SECCOMP, _SET_SECCOMP, _MODE_FILTER = 21, 22, 2  # prctl(2)
#: linux/audit.h: the word by which a filter knows whose numbers it sees; and the column of the tables below.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
#: Numbers from here on are those of the x32 ABI, which would pass the filter by.
_X32 = 0x40000000

_Numbers = dict[str, tuple[int | None, int | None]]
# fmt: off
#: By name, the numbers on x86-64 and on 64-bit ARM (unistd_64.h, asm-generic/unistd.h): "not permitted".
REFUSED: _Numbers = {
    # the network, and the sockets of other programs
    "connect": (42, 203),
    # other processes, and leaving the group by which this one is ended
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "setsid": (112, 157), "setpgid": (109, 154), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "sched_setparam": (142, 118), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # files by other ways than their path, and who uses them
    "truncate": (76, 45), "mknod": (133, None), "mknodat": (259, 33), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # the machine
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "setns": (308, 268), "unshare": (272, 97), "move_mount": (429, 429), "open_tree": (428, 428),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "syslog": (103, 116),
}
#: Answered as if they were done, and not done: owner, mode and times, also of files that this process may only read,
#: and for whom new ones are. A copy of a file ends with them, so that honest code asks for them.
PRETENDED: _Numbers = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "umask": (95, 166), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}
#: Answered as a file system does that has no such thing.
UNSUPPORTED: _Numbers = {
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
}
# fmt: on
_SOCKET, _SOCKETPAIR, _KILL, _TGKILL, _PRLIMIT, _IOCTL = (
    (41, 198),
    (53, 199),
    (62, 129),
    (234, 131),
    (302, 261),
    (16, 29),
)  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
#: ioctl requests that type into a terminal, as if its user had.
_TYPES_INTO_TERMINAL = (0x5412, 0x541C)
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW… of linux/sched.h

# linux/bpf_common.h: load a word, test it, return. A filter sees number, architecture, and arguments from byte 16 on.
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL_PROCESS, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_SOCKET_TYPE, _WORD = 0xF, 0xFFFFFFFF

_Instruction = tuple[int, int, int, int]
_ALLOWED: _Instruction = (_RETURN, 0, 0, _ALLOW)
_REFUSE: _Instruction = (_RETURN, 0, 0, _ERROR | errno.EPERM)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filters_calls() -> bool:
    """Tell whether the kernel filters system calls, and this module knows their numbers."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    return bool(_LIBC.prctl(_ASK_SECCOMP, 0, 0, 0, 0) >= 0)


def restrict_calls() -> None:
    """Refuse the calls to this thread and all it starts, for good. Raises `OSError` where the kernel does not do it."""
    column, architecture = _ARCHITECTURES[platform.machine()]
    code = b"".join(struct.pack("HBBI", *one) for one in _filter(column, architecture))
    program = _Program(len(code) // 8, code)
    _give_up_privileges()
    if _LIBC.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _filter(column: int, architecture: int) -> Iterator[_Instruction]:
    mine, stream, packets = os.getpid(), int(socket.SOCK_STREAM), int(socket.SOCK_SEQPACKET)
    yield from ((_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL_PROCESS))
    yield from ((_LOAD, 0, 0, _NUMBER), (_IF_AT_LEAST, 0, 1, _X32), _REFUSE)
    for table, error in ((REFUSED, errno.EPERM), (PRETENDED, 0), (UNSUPPORTED, errno.ENOTSUP)):
        for number in (numbers[column] for numbers in table.values()):
            if number is not None:
                yield from ((_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | error))
    # Connected pairs stay inside; pairs of datagrams could be connected elsewhere. The driver of a GPU binds a socket
    # of packets, to which nobody connects, and without `connect` this one connects to nobody.
    only_unix = _refused_unless(0, _WORD, (int(socket.AF_UNIX),))
    yield from _on(_SOCKET[column], [*only_unix, *_refused_unless(1, _SOCKET_TYPE, (packets,)), _ALLOWED])
    yield from _on(_SOCKETPAIR[column], [*only_unix, *_refused_unless(1, _SOCKET_TYPE, (stream,)), _ALLOWED])
    for call in (_KILL, _TGKILL):
        yield from _on(call[column], [*_refused_unless(0, _WORD, (mine,)), _ALLOWED])
    yield from _on(_PRLIMIT[column], [*_refused_unless(0, _WORD, (0, mine)), _ALLOWED])
    yield from _on(_CLONE[column], [*_refused_unless(0, _NEW_NAMESPACES, (0,)), _ALLOWED])
    # Its flags lie where a filter cannot look; the C library then takes `clone`.
    yield from _on(_CLONE3[column], [(_RETURN, 0, 0, _ERROR | errno.ENOSYS)])
    typing = [one for request in _TYPES_INTO_TERMINAL for one in ((_IF_EQUAL, 0, 1, request), _REFUSE)]
    yield from _on(_IOCTL[column], [_argument(1), *typing, _ALLOWED])
    yield _ALLOWED


def _on(number: int, body: list[_Instruction]) -> Iterator[_Instruction]:
    """Decide on one call; each body ends with a decision."""
    yield (_IF_EQUAL, 0, len(body), number)
    yield from body


def _argument(index: int) -> _Instruction:
    """Load the lower word of an argument."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _refused_unless(argument: int, mask: int, values: tuple[int, ...]) -> list[_Instruction]:
    """Refuse if an argument, as far as the mask goes, is none of these values; else go on."""
    tests = [(_IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [_argument(argument), (_AND, 0, 0, mask), *tests, _REFUSE]
