"""Tells pip a source package's name and version, and runs none of its code.

Before pip keeps a source package it asks the build backend for the metadata; setuptools
would run `setup.py`. This one reads the text file `PKG-INFO` that lies beside it.
"""

import email
import sys
from pathlib import Path

__legacy__ = sys.modules[__name__]  # what pip asks for where pyproject.toml is missing


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: object = None
) -> str:
    """Writes the metadata into a folder, and returns the folder's name."""
    text = Path("PKG-INFO").read_text(encoding="utf-8")
    headers = email.message_from_string(text)
    # pip splits the folder's name at its first dash.
    name = headers["Name"].replace("-", "_")
    folder = f"{name}-{headers['Version']}.dist-info"
    Path(metadata_directory, folder).mkdir()
    Path(metadata_directory, folder, "METADATA").write_text(text, encoding="utf-8")
    return folder
