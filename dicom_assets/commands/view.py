"""`dicom-assets view`: the tables under DICOM's keywords, as SQL to paste."""

import click

from dicom_assets.settings import Settings


@click.command()
@click.option(
    "--dialect",
    type=click.Choice(["duckdb", "spark", "tsql"]),
    default="duckdb",
    show_default=True,
    help="Dialect of the SQL; tsql is for Fabric and SQL Server.",
)
def view(dialect: str) -> None:
    """Print SQL that shows the tables under DICOM's keywords, your own columns among them."""
    from dicom_assets.schema import added, views

    settings = Settings.from_environment(complete=False)
    click.echo(views.definitions(added.tables(settings.columns_file), dialect), nl=False)
