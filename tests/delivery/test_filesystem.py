"""Which directories can hold the spool."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from bluejay_ws.delivery import filesystem
from bluejay_ws.exceptions import SpoolError
from tests.delivery.faults import NOBODY, as_ordinary_user, fill, no_descriptors, read_only, small_disk
from tests.delivery.kit import new_id, spool_at

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:20 / /proc rw - proc proc rw
31 22 0:44 / /mnt/my\040share rw,noatime shared:9 - nfs4 server:/x rw
32 31 8:2 / /mnt/my\040share/local rw - xfs /dev/sdb1 rw
garbage
40 22 0:1 / /mnt/cut rw -
"""


def mounts(tmp_path: Path) -> Path:
    """Return a list of mounts as the kernel writes it."""
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


def test_it_is_made_private(tmp_path: Path) -> None:
    """What callers said is for this user only."""
    directory = tmp_path / "a" / "b"
    filesystem.check(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert list(directory.iterdir()) == []


def test_one_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    """A directory that was made by hand or by a container gets the right mode."""
    tmp_path.chmod(0o755)
    filesystem.check(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/x", "ext4"), ("/mnt/my share/spool", "nfs4"), ("/mnt/my share/local/spool", "xfs"), ("/mnt/my sharex", "ext4")],
)
def test_the_longest_mount_tells_the_type(tmp_path: Path, path: str, kind: str) -> None:
    """Mount points nest, and their names can hold blanks."""
    assert filesystem.type_of(Path(path), mounts=mounts(tmp_path)) == kind


def test_where_the_kernel_does_not_tell_nothing_is_known(tmp_path: Path) -> None:
    """Other systems have no such list, and are not refused for it."""
    assert filesystem.type_of(tmp_path, mounts=tmp_path / "none") is None


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """Its locks cannot be trusted, and two processes would send the same report."""
    table = tmp_path / "mountinfo"
    table.write_text(f"31 22 0:44 / {tmp_path} rw - nfs4 server:/x rw\n")
    with pytest.raises(SpoolError, match=r"network file system \(nfs4\).*; give a directory on a local disk"):
        filesystem.check(tmp_path / "spool", mounts=table)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    """They could read what callers said, or plant reports."""
    os.chown(tmp_path, NOBODY, -1)
    with pytest.raises(SpoolError, match="belongs to user 65534"):
        filesystem.check(tmp_path)


def test_one_that_cannot_be_written_to_is_refused() -> None:
    """The reason and the way out are said at once, not at the first call."""
    refused = pytest.raises(SpoolError, match="cannot be used: permission denied; give a directory")
    with as_ordinary_user() as directory, read_only(directory), refused:
        filesystem.check(directory / "spool")


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """A path that is a file cannot become a directory."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolError, match="file exists"):
        filesystem.check(tmp_path / "spool")


def test_no_descriptors_are_a_reason_to_refuse(tmp_path: Path) -> None:
    """A process that cannot open a file now is told so."""
    with no_descriptors(), pytest.raises(SpoolError, match="too many open files"):
        filesystem.check(tmp_path)


def test_a_full_disk_is_no_reason_to_refuse() -> None:
    """What waits there can still be delivered, and that makes room."""
    with small_disk(64) as disk:
        filesystem.check(disk / "spool")
        filler = fill(disk)
        filesystem.check(disk / "spool")
        assert filler.stat().st_size > 0


@pytest.mark.parametrize(("reason", "refused"), [(errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EIO, True)])
def test_which_failures_to_try_a_directory_out_are_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int, refused: bool
) -> None:
    """Where no small disk can be mounted: a disk or a quota that is full is none, one that fails is."""

    def fail(directory: Path) -> None:
        raise OSError(reason, os.strerror(reason), str(directory))

    monkeypatch.setattr(filesystem, "_try_out", fail)
    with pytest.raises(SpoolError) if refused else contextlib.nullcontext():
        filesystem.check(tmp_path)


def test_a_file_system_without_free_inodes_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It looks like a full disk, and ``df`` shows room: a spool there, one to be made there, and a call that begins."""
    with small_disk(1024, inodes=300) as disk:
        spool = spool_at(disk / "spool")
        with contextlib.suppress(OSError):
            for number in range(400):
                (disk / f"{number}").touch()
        assert filesystem.out_of_inodes(disk)
        for directory in (disk, disk / "new" / "spool"):
            with pytest.raises(SpoolError, match="no free inodes"):
                filesystem.check(directory)
        assert spool.open_call(report_id=new_id(), simulation_result_id="1", header=b"") is None
    assert "no free inodes: df -i tells" in caplog.text
    assert not filesystem.out_of_inodes(tmp_path / "nowhere")
