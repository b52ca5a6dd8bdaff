"""Disks that fail, without patching anything: limits of the kernel, other users, small file systems."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[Path]:
    """Run as somebody for whom permissions count; yield a directory of theirs."""
    directory = Path(tempfile.mkdtemp(prefix="bluejay_ws-"))
    root = os.geteuid() == 0
    if root:
        os.chown(directory, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let nothing in a directory be made, renamed or removed."""
    directory.chmod(0o500)
    try:
        yield
    finally:
        directory.chmod(0o700)


@contextlib.contextmanager
def small_disk(kilobytes: int, *, inodes: int = 0) -> Iterator[Path]:
    """Yield a file system of this size, or with room for so many files; skips the test where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="bluejay_ws-") as text:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,nr_inodes={inodes}", "tmpfs", text]
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        try:
            yield Path(text)
        finally:
            subprocess.run(["umount", "--lazy", text], check=True)


def fill(directory: Path) -> Path:
    """Fill the file system that holds a directory; return the file that does it."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler
