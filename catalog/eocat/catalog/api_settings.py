"""The reader's connection in the form that stac-fastapi-pgstac takes (SETUP section 2.4)."""

from typing import Any

from pydantic import PrivateAttr
from stac_fastapi.pgstac.config import PostgresSettings, ServerSettings


class DsnSettings(PostgresSettings):  # type: ignore[misc]  # the library ships no types
    """PostgresSettings whose connection string is a given one.

    The library's own is built from host and port alone: a socket's folder must be percent-encoded by the
    caller, and TLS parameters are lost.
    """

    _dsn: str = PrivateAttr()

    def __init__(self, dsn: str, **values: Any) -> None:
        super().__init__(_env_file=None, **values)
        self._dsn = dsn

    @property
    def connection_string(self) -> str:
        return self._dsn


def build_settings(dsn: str, server_settings: dict[str, str]) -> PostgresSettings:
    """Settings for `connect_to_db`; what stands in the environment (PGHOST and so on) is not looked at."""
    unused = {"pguser": "", "pgpassword": "", "pghost": "", "pgport": 0, "pgdatabase": ""}
    return DsnSettings(dsn, **unused, server_settings=ServerSettings(**server_settings))
