"""What must be so before anything is served: we are alone, database migrated, static files collected, an administrator there.

Every step looks first and does nothing where nothing is to do, so that a second start takes no time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from accounts.services import ensure_first_admin
from vmmanager.environment import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

COPIES_KEPT = 3


@contextlib.contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process; the kernel lets go when it dies.

    A second `serve` on the same SQLite file would take the first one's operations for those of a dead process, and run them
    beside it.

    Raises:
        Unusable: Another process holds it, or nothing can be written there.
    """
    path = data_dir / "serve.lock"
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a+"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        except BlockingIOError:
            raise Unusable(
                f"Process {path.read_text().strip()} serves {data_dir} already: end it, or set VMM_DATA_DIR to another directory."
            ) from None
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror}") from None
        yield


def prepare() -> Path | None:
    """All of it; the file that holds the first administrator's password if one was just made.

    Raises:
        Unusable: The database or the data directory does not let us.
    """
    try:
        migrate()
        collect_static()
        return ensure_first_admin(settings.DATA_DIR, settings.ENV.admin_password)
    except DatabaseError as error:
        raise Unusable(f"The database ({_database()}) cannot be used: {str(error).strip()}") from error
    except OSError as error:
        raise Unusable(f"{error.filename or settings.DATA_DIR}: {error.strerror or error}") from error


def _database() -> str:
    """Where it is, without the password."""
    found = connection.settings_dict
    return str(found["NAME"]) if not found.get("HOST") else f"{found['HOST']}:{found.get('PORT') or 5432}"


def migrate() -> None:
    """Bring the database up to date; an SQLite file that already holds something is copied first."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return
    if connection.vendor == "sqlite" and executor.loader.applied_migrations:
        _copy_sqlite(Path(str(connection.settings_dict["NAME"])), label=plan[0][0].name)
    call_command("migrate", interactive=False, verbosity=0)
    log.info("database migrated", extra={"migrations": len(plan)})


def _copy_sqlite(path: Path, *, label: str) -> None:
    """A consistent copy beside the file (SQLite's own backup, which minds the write-ahead log); the oldest copies go."""
    copy = path.with_name(f"{path.name}.before-{label}")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    copy.chmod(0o600)
    copies = sorted(path.parent.glob(f"{path.name}.before-*"), key=lambda file: file.stat().st_mtime)
    for old in copies[:-COPIES_KEPT]:
        old.unlink()


def collect_static() -> None:
    """Collect, hash and compress static files when any of them changed since the last time."""
    if settings.WHITENOISE_USE_FINDERS:
        return
    root = Path(settings.STATIC_ROOT)
    stamp = root / ".stamp"
    now = _fingerprint(Path(folder) for folder in settings.STATICFILES_DIRS)
    if stamp.exists() and stamp.read_text() == now:
        return
    root.mkdir(parents=True, exist_ok=True)
    call_command("collectstatic", interactive=False, verbosity=0, clear=True)
    stamp.write_text(now)


def _fingerprint(folders: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                stat = file.stat()
                digest.update(f"{file.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
