"""Everything an operator can set, read once from the environment and an env file.

``model.py`` declares the variables, ``forms.py`` reads one value, ``load.py`` reads them all and tells every problem
at once, ``describe.py`` and ``reference.py`` show them, ``data_dir.py`` looks whether the archive's folder is usable.
"""

from vodkeep.settings.data_dir import check_data_dir, check_locks
from vodkeep.settings.describe import SettingRow, describe
from vodkeep.settings.forms import FOLDER_PLACEHOLDERS, HttpAddress
from vodkeep.settings.load import ENV_FILE_VARIABLE, load_settings
from vodkeep.settings.model import (
    CatalogSettings,
    ChatSettings,
    DatabaseSettings,
    LogSettings,
    PipelineSettings,
    RetentionSettings,
    SecuritySettings,
    Settings,
    Source,
    StorageSettings,
    ToolSettings,
    TracingSettings,
    TwitchSettings,
    UploadSettings,
    Variable,
    WebSettings,
    YouTubeSettings,
    declared_variables,
)

__all__ = [
    "ENV_FILE_VARIABLE",
    "FOLDER_PLACEHOLDERS",
    "CatalogSettings",
    "ChatSettings",
    "DatabaseSettings",
    "HttpAddress",
    "LogSettings",
    "PipelineSettings",
    "RetentionSettings",
    "SecuritySettings",
    "SettingRow",
    "Settings",
    "Source",
    "StorageSettings",
    "ToolSettings",
    "TracingSettings",
    "TwitchSettings",
    "UploadSettings",
    "Variable",
    "WebSettings",
    "YouTubeSettings",
    "check_data_dir",
    "check_locks",
    "declared_variables",
    "describe",
    "load_settings",
]
