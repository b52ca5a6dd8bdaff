"""A PostgreSQL server of its own in a temporary directory: no service, no port that others use, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

__all__ = ["Database", "NoPostgresError", "binaries"]

SETTINGS = {
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "log_min_messages": "fatal",
    "autovacuum_naptime": "5s",
}


class NoPostgresError(Exception):
    """Say that PostgreSQL is not installed: ``apt-get install postgresql``."""


def binaries() -> Path:
    """Return the directory of ``initdb`` and ``pg_ctl``, of the newest version that is here.

    Raises:
        NoPostgresError: there is none.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise NoPostgresError("PostgreSQL is not installed: apt-get install postgresql")
    return (found[-1] if found else Path(str(on_path)).resolve()).parent


class Database:
    """Start a server in ``with``; it listens on a unix socket and on the loopback address.

    Args:
        durable: wait for the disk at each commit, as a real server does; tests need not.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._binaries = binaries()
        self._durable = durable
        self._home = Path(tempfile.mkdtemp(prefix="bluejay-pg-"))  # short: a socket's path has 107 characters at most
        self._cleaner = _clean_up_after_us(self._home)
        self.port = _free_port()

    @property
    def socket_directory(self) -> Path:
        """Return where the unix socket is."""
        return self._home

    def url(self, database: str = "postgres", *, user: str = "bluejay", tcp: bool = False) -> str:
        """Return the URL of one of its databases."""
        if tcp:
            return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{user}@/{database}?host={self._home}&port={self.port}"

    def start(self) -> Self:
        """Make the server, if it is not there yet, and start it."""
        data = self._home / "data"
        if not data.exists():
            if os.getuid() == 0:  # PostgreSQL refuses to run as root
                shutil.chown(self._home, "postgres", "postgres")
            sync = [] if self._durable else ["--no-sync"]
            locale = ["--encoding=UTF8", "--locale=C"]
            self._run("initdb", "-D", str(data), "-U", "bluejay", "-A", "trust", *locale, *sync)
            settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": f"'{self._home}'"}
            if not self._durable:
                settings |= {"fsync": "off", "full_page_writes": "off"}  # a crash of the server loses nothing
            with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self._run("pg_ctl", "-D", str(data), "-l", str(self._home / "log"), "-w", "-t", "60", "start")
        return self

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; ``immediate`` is what a crash looks like."""
        self._run("pg_ctl", "-D", str(self._home / "data"), "-m", mode, "-w", "stop")

    def create(self, database: str, template: str = "template1") -> str:
        """Create a database and return its URL."""
        self._execute(f'create database "{database}" template "{template}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(f'drop database "{database}" with (force)')

    def _execute(self, statement: str) -> None:
        import psycopg  # noqa: PLC0415 - who skips without PostgreSQL need not have it

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        """Stop the server and remove everything; twice is allowed."""
        if self._cleaner.stdin is not None:
            self._cleaner.stdin.close()
        self._cleaner.wait()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, as its own user where we are root."""
        command = [str(self._binaries / program), *arguments]
        environ = {**os.environ, "LC_ALL": "C", "PGOPTIONS": ""}
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        subprocess.run(  # noqa: S603 - a program of PostgreSQL's, by its full path
            command,
            check=True,
            env=environ,
            cwd="/",
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


_CLEANER = """
cat
pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
gone() { ! kill -0 "$pid" 2>/dev/null || grep -qs '^State:.Z' "/proc/$pid/status"; }
[ -n "$pid" ] && kill -QUIT "$pid" && until gone; do sleep 0.02; done
rm -rf "$0"
"""


def _clean_up_after_us(home: Path) -> subprocess.Popen[bytes]:
    """Start a shell that waits for the end of its input, then stops the server and removes everything.

    The input ends when we close it, and when this process ends, however it does: SIGKILL and Ctrl-C too.
    """
    return subprocess.Popen(  # noqa: S603 - the shell's own text, and a directory that we made
        ["/bin/sh", "-c", _CLEANER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
