"""A real PostgreSQL server for tests: started on a free port, stopped, killed and started again as a test likes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url


class NoPostgresError(Exception):
    """Why there is no server."""


class Databases:
    """What tests ask of a server, ours or another."""

    _emptied: str | None = None

    def new_database(self) -> str:
        """Make a database; return its URL. It costs 7 MB and many small files."""
        raise NotImplementedError

    def empty_database(self) -> str:
        """Return the URL of one and the same database, emptied; whoever was connected no longer is."""
        self._emptied = self._emptied or self.new_database()
        where = make_url(self._emptied).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(where, autocommit=True) as con:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            con.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            con.execute("DROP SCHEMA IF EXISTS rxdraft CASCADE")
        return self._emptied


class Server(Databases):
    """A server of its own data folder; every database of it is trusted to everyone on this machine."""

    def __init__(self, folder: Path, options: str) -> None:
        self._data = folder / "data"
        self._bin = binaries()
        self._options = options
        self._port = free_port()
        self._run("initdb", "-D", self._data, "-U", "rx", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        """Start, and wait until it answers."""
        told = f"-p {self._port} -c listen_addresses=127.0.0.1 -k {self._data} {self._options}"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._data / "log", "-o", told, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: "fast" ends the sessions, "immediate" is as if the power were cut."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def new_database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"rx_{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://rx@127.0.0.1:{self._port}/{name}"

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as superuser."""
        where = f"host=127.0.0.1 port={self._port} user=rx dbname={database}"
        with psycopg.connect(where, autocommit=True) as con:
            con.execute(statement)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [*_as_other_user(), str(self._bin / program), *map(str, arguments)]
        with tempfile.TemporaryFile() as told:  # no pipe: the server would inherit and hold it
            if subprocess.run(command, stdout=told, stderr=told, cwd="/").returncode:
                told.seek(0)
                raise NoPostgresError(f"{program}: {told.read().decode(errors='replace')[-500:]}")


class Existing(Databases):
    """A server that runs already, and whose user may make databases."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def new_database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"rx_{uuid.uuid4().hex[:12]}"
        where = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(where, autocommit=True) as con:
            con.execute(f"CREATE DATABASE {name}")
        return self._url.set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)


@contextmanager
def server(options: str = "-c fsync=off") -> Iterator[Server]:
    """Lend a running server.

    Raises:
        NoPostgresError: this machine has no PostgreSQL, or it does not start.
    """
    binaries()
    folder = Path(tempfile.mkdtemp(prefix="rxdraft-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _other_user().pw_name)
        lent = Server(folder, options)
        lent.start()
        try:
            yield lent
        finally:
            lent.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs: the one on PATH, else the newest where Debian puts them."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if on_path:
        return Path(on_path).resolve().parent
    if not found:
        raise NoPostgresError("no initdb on PATH or below /usr/lib/postgresql")
    return found[-1].parent


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_other_user() -> list[str]:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return []
    user = _other_user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgresError("running as root, and there is neither a user postgres nor nobody")
