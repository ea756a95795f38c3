"""The effective configuration as rows, secrets masked."""

from __future__ import annotations

from dataclasses import dataclass

from vodkeep.settings.dsn import mask_address
from vodkeep.settings.model import Settings, Source, declared_variables


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One variable as it takes effect."""

    name: str
    value_masked: str  # in the variable's own form; empty when nothing is set
    source: Source
    default: str  # as written; empty when there is none
    group: str
    doc: str
    unit: str
    secret: bool


def describe(settings: Settings) -> list[SettingRow]:
    """Every variable with its value and where that comes from, in the order of the documentation."""
    rows = []
    for variable in declared_variables():
        shown = variable.form.show(settings.value_of(variable))
        if variable.name == "DB_DSN" and not shown:
            # What is used says more than that nothing was set.
            shown = mask_address(settings.database.url().render_as_string(hide_password=True))
        rows.append(
            SettingRow(
                name=variable.name,
                value_masked=shown,
                source=settings.source_of(variable.name),
                default=variable.default,
                group=variable.group,
                doc=variable.doc,
                unit=variable.form.unit,
                secret=variable.secret,
            )
        )
    return rows
