"""Where the database is, and what each connection to it sets."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from aos.errors import InvalidField

CONNECT_SECONDS: Final = 5
"""How long one attempt to connect may take."""
STATEMENT_SECONDS: Final = 30
"""How long one statement may take."""
LOCK_SECONDS: Final = 10
"""How long one statement may wait for a lock."""
IDLE_SECONDS: Final = 60
"""How long a transaction may do nothing: its process hangs, and others wait for its locks."""
SILENT_SECONDS: Final = 10
"""After how long a connection is given up whose other end is not heard of."""
_SESSION: Final = {
    # the other end, too, gives up whom it does not hear of, and lets go of his locks
    "tcp_keepalives_idle": SILENT_SECONDS // 2,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": SILENT_SECONDS // 2,
    "tcp_user_timeout": SILENT_SECONDS * 1000,
    "application_name": "aos",
    "default_transaction_isolation": r"read\ committed",
    "synchronous_commit": "on",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    "jit": "off",  # compiling takes longer than any of our statements
}
SCHEMES: Final = ("postgresql://", "postgres://")


def connection_string(url: str) -> str:
    """Return what the driver connects by. Raises InvalidField for a URL that it cannot read, without a password in it."""
    if not url.startswith(SCHEMES):
        raise InvalidField("database", f"must begin with {SCHEMES[0]}")
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise InvalidField("database", "is no PostgreSQL URL: postgresql://user@host:5432/name") from error
    if not str(parts.get("port") or "0").isdecimal():
        raise InvalidField("database", "its port is no number")
    session = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    usual: dict[str, str | int] = {
        "connect_timeout": CONNECT_SECONDS,
        "client_encoding": "utf8",
        "keepalives_idle": SILENT_SECONDS // 2,
        "keepalives_interval": 1,
        "keepalives_count": SILENT_SECONDS // 2,
        "tcp_user_timeout": SILENT_SECONDS * 1000,
    }
    return make_conninfo("", **(usual | parts | {"options": f"{parts.get('options') or ''} {session}".strip()}))
