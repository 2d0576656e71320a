"""`faas backup` and `faas restore`: the data folder of a platform on this machine as one file, and back."""

from __future__ import annotations

from pathlib import Path

import click

from cli.errors import Misuse
from cli.settings import default_data_dir
from cli.tables import counted

_FOLDER = "The data folder.  [default: /var/lib/pinnace as root, else ~/.local/share/pinnace]"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), envvar="PINNACE_DATA_DIR", help=_FOLDER)
@click.option("--force", is_flag=True, help="Replace FILE when it exists.")
def backup(file: Path, data_dir: Path | None, force: bool) -> None:
    """Write functions, revisions, namespaces, bundles, secrets and the login to the tar file FILE.

    Works while the platform runs. The file holds the secrets: it is made for its owner only. Logs are not in it.
    """
    if file.exists() and not force:
        raise Misuse(f"{file} exists already; --force replaces it")
    from cli import backups

    size = backups.backup(data_dir or Path(default_data_dir()), file)
    click.echo(f"Wrote {file}, {size / (1 << 20):.1f} MiB.")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), envvar="PINNACE_DATA_DIR", help=_FOLDER)
def restore(file: Path, data_dir: Path | None) -> None:
    """Make a data folder from the backup FILE. The folder must be new or empty; start the platform afterwards."""
    from cli import backups

    folder = data_dir or Path(default_data_dir())
    files, warnings = backups.restore(file, folder)
    for warning in warnings:
        click.echo(f"Note: {warning}", err=True)
    click.echo(f"Restored {counted(files, 'file')} into {folder}. Start it: faas serve --data-dir {folder}")
