"""Where the catalogue's database is, and how to connect to it (DESIGN section 4).

EOCAT_DATABASE_URL names an external PostgreSQL; without it, the embedded cluster of the home folder is
started. Three roles: `owner` migrates and registers, `reader` serves, `writer` admits over HTTP (roles.py).
For an external database these two are EOCAT_DATABASE_READ_URL and EOCAT_DATABASE_WRITE_URL, else the owner's
login with the rights of the role. What is in the database is made by `schema.py`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from eocat.catalog.cluster import PORT, SUPERUSER, Cluster
from eocat.catalog.prefix import Progress
from eocat.verify.errors import ConfigError, MissingExtra, Unavailable

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError as error:  # pragma: no cover - the tests install the extra
    raise MissingExtra(
        "the catalogue's database needs the extra serve", hint='pip install "eocat[serve]"'
    ) from error

if TYPE_CHECKING:
    import sqlalchemy
    from stac_fastapi.pgstac.config import PostgresSettings

Role = Literal["owner", "reader"]

NAME: Final = "eocat"
READER: Final = "eocat_read"
WRITER: Final = "eocat_write"
SEARCH_PATH: Final = "pgstac,public"  # pgSTAC's functions name their tables without schema
STATEMENT_TIMEOUT_S: Final = 30
CONNECT_TIMEOUT_S: Final = 10

# libpq's parameters that asyncpg knows in a URL; it would send any other to the server as a setting.
_TLS = {"sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword"}
ASYNCPG_PARAMETERS: Final = frozenset(_TLS | {"target_session_attrs", "passfile"})


@dataclass(frozen=True, slots=True)
class Database:
    """A database by the libpq connection strings of its roles. cluster: None if it is external.

    home: the catalogue's folder, with its keys and the files of its log; None: not known, so no log.
    writer: None where the owner's login takes on the role.
    """

    owner: str
    reader: str
    cluster: Cluster | None
    home: Path | None = None
    writer: str | None = None

    @property
    def name(self) -> str:
        return str(conninfo_to_dict(self.owner).get("dbname", ""))

    @property
    def embedded(self) -> bool:
        return self.cluster is not None

    def required_home(self) -> Path:
        """The catalogue's folder; ConfigError where it is not known."""
        if self.home is None:
            raise ConfigError(f"the database {self.name} was given without the catalogue's home folder")
        return self.home

    def named(self, name: str) -> "Database":
        """The database of another name on the same server."""
        owner, reader = (make_conninfo(conninfo, dbname=name) for conninfo in (self.owner, self.reader))
        writer = make_conninfo(self.writer, dbname=name) if self.writer else None
        return replace(self, owner=owner, reader=reader, writer=writer)

    def as_writer(self) -> "Database":
        """The same database for a process that admits and nothing else: its owner is the role `writer`."""
        if self.embedded:
            owner = make_conninfo(self.owner, user=WRITER)
        else:
            owner = self.writer or _taking_on(self.owner, {"role": WRITER})
        return replace(self, owner=owner)

    def connect(
        self, role: Role = "owner", *, autocommit: bool = False
    ) -> "psycopg.Connection[tuple[Any, ...]]":
        """A psycopg connection; Unavailable if the server is gone or refuses."""
        conninfo = self.owner if role == "owner" else self.reader
        try:
            return psycopg.connect(conninfo, autocommit=autocommit)
        except psycopg.OperationalError as error:
            raise self.unavailable(error, role) from error

    def unavailable(self, error: Exception, role: Role = "owner") -> Unavailable:
        """The error for a failed connection: which database, why, and what to do. It names no password."""
        parts = conninfo_to_dict(self.owner if role == "owner" else self.reader)
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        for prefix in ("connection failed: ", "connection is bad: "):
            why = why.removeprefix(prefix)
        where = f"{parts.get('dbname')} at {parts.get('host', 'the default host')}"
        hint = "eocat up starts it" if self.embedded else "check EOCAT_DATABASE_URL and that the server runs"
        return Unavailable(f"the database {where} does not answer: {why}", hint=hint)

    def engine(self, role: Role = "owner") -> "sqlalchemy.Engine":
        """An SQLAlchemy engine without a pool: each connection is a new one, closed at its end."""
        import sqlalchemy

        return sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=lambda: self.connect(role), poolclass=sqlalchemy.NullPool
        )

    def asyncpg_dsn(self, role: Role = "reader") -> str:
        """The same as a URL for asyncpg; a socket's folder goes into the query, percent-encoded."""
        parts = dict(conninfo_to_dict(self.owner if role == "owner" else self.reader))
        user, password = parts.get("user"), parts.get("password")
        login = quote(str(user), safe="") if user else ""
        login += f":{quote(str(password), safe='')}" if password else ""
        query = {key: parts[key] for key in ("host", "port") if parts.get(key)}
        query |= {key: value for key, value in parts.items() if key in ASYNCPG_PARAMETERS and value}
        options = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in query.items())
        return f"postgresql://{login}@/{quote(str(parts.get('dbname') or ''), safe='')}?{options}"

    def server_settings(self, role: Role = "reader") -> dict[str, str]:
        """What asyncpg sends at connect, as its URL has no place for libpq's options."""
        own = session_settings() if role == "reader" else {"search_path": SEARCH_PATH}
        return {"application_name": "eocat", **own, **self._assumed_role(role)}

    def api_settings(self, role: Role = "reader") -> "PostgresSettings":
        """The settings of stac-fastapi-pgstac for the role: `connect_to_db(app, postgres_settings=…)`."""
        from eocat.catalog.api_settings import build_settings

        return build_settings(self.asyncpg_dsn(role), self.server_settings(role))

    def _assumed_role(self, role: Role) -> dict[str, str]:
        """The role taken on after login, where the reader has no login of its own."""
        parts = conninfo_to_dict(self.reader)
        assumed = role == "reader" and f"-c role={READER}" in str(parts.get("options") or "")
        return {"role": READER} if assumed else {}


def session_settings() -> dict[str, str]:
    """The reader's limits, against accidents and slow queries (its rights are what keeps it from writing)."""
    return {
        "default_transaction_read_only": "on",
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "search_path": SEARCH_PATH,
    }


def find_database(
    home: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    start: bool = True,
    progress: Progress = lambda *_: None,
) -> Database:
    """The external database that the environment names, else the embedded one of the home folder.

    start: start (and create) the embedded cluster if it does not run; else Unavailable. The database itself
    may still be missing or old: see `schema.migrate`. Raises ConfigError, Unavailable, Malformed.
    """
    if url := environ.get("EOCAT_DATABASE_URL"):
        read_url, write_url = (environ.get(f"EOCAT_DATABASE_{kind}_URL") for kind in ("READ", "WRITE"))
        return replace(external_database(url, read_url, write_url), home=home)
    cluster = Cluster(home)
    server = cluster.ensure(progress) if start else cluster.status()
    if server is None:
        raise Unavailable(f"the database in {cluster.folder} does not run", hint="eocat up starts it")
    owner, reader = (
        make_conninfo(
            host=str(server.sockets), port=PORT, user=user, dbname=NAME, connect_timeout=CONNECT_TIMEOUT_S
        )
        for user in (SUPERUSER, READER)
    )
    return Database(owner, reader, cluster, home)


def external_database(url: str, read_url: str | None, write_url: str | None = None) -> Database:
    """The database at the URLs; ConfigError if one is no postgresql:// URL with a database name."""
    owner = parse_url(url, "EOCAT_DATABASE_URL")
    if read_url:
        reader = parse_url(read_url, "EOCAT_DATABASE_READ_URL")
    else:
        reader = _taking_on(owner, {**session_settings(), "role": READER})
    writer = parse_url(write_url, "EOCAT_DATABASE_WRITE_URL") if write_url else None
    return Database(owner, reader, cluster=None, writer=writer)


def _taking_on(conninfo: str, settings: Mapping[str, str]) -> str:
    """The same login with settings of its session, among them the role that it takes on."""
    given = conninfo_to_dict(conninfo).get("options")
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return make_conninfo(conninfo, options=f"{given} {options}" if given else options)


def parse_url(url: str, variable: str) -> str:
    """The URL as a libpq connection string. The messages never repeat it, as it may hold a password."""
    hint = "expected postgresql://user:password@host:5432/name"
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(f"{variable} is no postgresql:// URL", hint=hint)
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigError(f"{variable} cannot be read as a postgresql:// URL", hint=hint) from None
    if not parts.get("dbname"):
        raise ConfigError(f"{variable} names no database", hint=hint)
    return make_conninfo(
        url, **({} if "connect_timeout" in parts else {"connect_timeout": CONNECT_TIMEOUT_S})
    )
