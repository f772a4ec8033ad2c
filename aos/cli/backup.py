"""`aos backup`, `aos restore`: all that a network keeps in its data folder, in one file, while it runs; and back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from aos.cli.main import ERR, Where
from aos.storage import archive
from aos.storage.archive import PART, BadArchive
from aos.store.snapshot import check, is_sqlite, snapshot

LEFT_OUT: Final = (".log", "-wal", "-shm", "-journal", ".new", PART)
"""How the names of files end that are of no use later: what they hold is elsewhere, or nowhere whole."""
LOCK: Final = "lock"
"""Says that a network runs on the folder; the file itself holds nothing."""


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def backup(where: Where, file: Path) -> None:
    """Write all that the data folder keeps to FILE: jobs, money, keys, pictures, controllers. The network may run meanwhile.

    FILE opens all that the network can do: it has the keys and tokens.
    """
    data = where.data.expanduser()
    if not any(is_sqlite(path) for _, path in files_of(data)):
        raise click.ClickException(f"There is no database in {data}; see --data.")
    try:
        with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".aos-backup-") as name:
            facts = {"created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "version": version("aos")}
            written = archive.write(file, _parts(data, Path(name)), facts=facts)
    except FileExistsError as error:
        raise click.ClickException(f"{file} is there already.") from error
    except OSError as error:
        raise click.ClickException(f"There is no backup: {error}") from error
    size = sum(one.size for one in written.values())
    ERR.print(f"{len(written)} files, {size / 1e6:.1f} MB, in {file}. Whoever has it has the network's keys.")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def restore(where: Where, file: Path) -> None:
    """Make the data folder as it was when FILE was written. The folder must be empty, or not there.

    The network that was backed up must not run any more: two would settle the same jobs.
    """
    data = where.data.expanduser()
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        facts = archive.read(file, data)
        for name, path in files_of(data):
            if is_sqlite(path) and (wrong := check(path)):
                raise click.ClickException(f"{name} was damaged when it was backed up: {wrong}")
    except FileExistsError as error:
        raise click.ClickException(f"{data} is not empty.") from error
    except BadArchive as error:
        raise click.ClickException(f"{file} is no good backup: {error}.") from error
    except OSError as error:
        raise click.ClickException(f"It cannot be restored: {error}") from error
    ERR.print(f"{data} is as it was at {facts.get('created', 'an unknown time')}; start it with `aos --data {data} up`.")


def files_of(data: Path) -> Iterator[tuple[str, Path]]:
    """Yield what is to be kept of the folder, by its name there; folders that are linked from it count as its own."""
    seen, waiting = set[Path](), [data]
    while waiting:
        folder = waiting.pop()
        if not folder.is_dir() or folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                waiting.append(path)
            elif path.is_file() and path.name != LOCK and not path.name.endswith(LEFT_OUT):
                yield path.relative_to(data).as_posix(), path


def _parts(data: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    # databases first: what they speak of was there before, and files that come later do no harm
    databases = [(name, path) for name, path in files_of(data) if is_sqlite(path)]
    for number, (name, path) in enumerate(databases):
        copy = scratch / str(number)
        copy.touch(mode=0o600)
        snapshot(path, copy)
        yield name, copy
        copy.unlink()
    kept = {name for name, _ in databases}
    for name, path in files_of(data):
        if name not in kept:
            yield name, path


COMMANDS = (backup, restore)
