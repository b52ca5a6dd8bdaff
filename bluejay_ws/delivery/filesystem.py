"""Whether a directory can hold the spool: ours, private, local, and its locks and renames work."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from pathlib import Path
from typing import NoReturn

from bluejay_ws.exceptions import SpoolError

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "gpfs", "lustre", "ncpfs", "ocfs2", "orangefs"}
    | {"nfs", "nfs3", "nfs4", "smb2", "smb3", "smbfs"}
    | {"fuse.davfs2", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "virtiofs"}
    # Buckets: a rename is a copy there, or impossible, and locks are nobody's.
    | {"fuse.blobfuse", "fuse.blobfuse2", "fuse.gcsfuse", "fuse.goofys", "fuse.juicefs", "juicefs"}
    | {"fuse.mount-s3", "fuse.mountpoint-s3", "fuse.ossfs", "fuse.cosfs", "fuse.seaweedfs", "fuse.hf-mount"}
)
_LOCAL = "give a directory on a local disk of this machine (argument spool, or BLUEJAY_SPOOL)"
_ELSEWHERE = "give a directory this user can write to (argument spool, or BLUEJAY_SPOOL)"


def check(directory: Path, *, mounts: Path = MOUNTS) -> None:
    """Make the directory if it is missing (mode 0700) and try out all that the spool needs; idempotent.

    A full disk is no reason to refuse: what waits there can still be delivered.

    Args:
        directory: the spool.
        mounts: where the kernel lists mounts; where there is no such file the check is left out.

    Raises:
        SpoolError: it cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
    except OSError as error:
        _refuse(directory, error, "made")
    if facts.st_uid != os.geteuid():
        raise SpoolError(str(directory), f"belongs to user {facts.st_uid}, not to us", _ELSEWHERE)
    if stat.S_IMODE(facts.st_mode) & 0o077:
        with contextlib.suppress(OSError):  # where it cannot be changed, the next step fails or it must do as it is
            directory.chmod(0o700)
    kind = type_of(directory, mounts=mounts)
    if kind in _NETWORK:
        raise SpoolError(str(directory), f"is on a network file system ({kind}), where locks cannot be trusted", _LOCAL)
    try:
        _try_out(directory)
    except OSError as error:
        if error.errno != errno.EDQUOT and (error.errno != errno.ENOSPC or out_of_inodes(directory)):
            _refuse(directory, error, "used")


def out_of_inodes(directory: Path) -> bool:
    """Return whether the file system has no room for another file, whatever space it has."""
    try:
        facts = os.statvfs(directory)
    except OSError:
        return False
    return facts.f_files > 0 and facts.f_favail == 0


def _nearest(directory: Path) -> Path:
    """Return the directory itself, or the nearest one above it that exists."""
    return next((path for path in (directory, *directory.parents) if path.exists()), directory)


def _refuse(directory: Path, error: OSError, verb: str) -> NoReturn:
    if error.errno == errno.ENOSPC and out_of_inodes(_nearest(directory)):
        reason = f"cannot be {verb}: its file system has no free inodes (df -i tells)"
        raise SpoolError(str(directory), reason, "remove files there, or " + _LOCAL) from error
    reason = (error.strerror or type(error).__name__).lower()
    raise SpoolError(str(directory), f"cannot be used: {reason}", _ELSEWHERE) from error


def _try_out(directory: Path) -> None:
    """Make, lock, rename and remove a file."""
    first = directory / f".try-{os.getpid()}-{os.urandom(4).hex()}"
    second = first.with_suffix(".renamed")
    fd = os.open(first, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        first.rename(second)
    finally:
        os.close(fd)
        for path in (first, second):
            path.unlink(missing_ok=True)


def type_of(directory: Path, *, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system that holds ``directory``, or None where the kernel does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    where = str(directory.resolve())
    best, kind = -1, None
    for line in lines:
        mount = _mount(line)
        if mount and _below(where, mount[0]) and len(mount[0]) >= best:
            best, kind = len(mount[0]), mount[1]
    return kind


def _mount(line: str) -> tuple[str, str] | None:
    """Return mount point and type of one line: ``36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/sda1 rw``."""
    before, dash, after = line.partition(" - ")
    fields, rest = before.split(), after.split()
    if not dash or len(fields) < 5 or not rest:
        return None
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]), rest[0]


def _below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")
