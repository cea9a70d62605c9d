"""Whether the storage area is the one that the archive is meant to have: no image may ever lie in clear unasked.

Orthanc without the storage plugin would write plaintext beside encrypted images, and say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PLUGIN = "/opt/pacs/storage/libpacs-storage.so"
MODES = ("None", "Transit")
#: What the storage plugin makes first under its root (``images/archive/storage/area.h``).
MARK = "check"


def mode_of(configuration: Mapping[str, object]) -> str:
    """Return ``PacsArchive.StorageEncryption``: ``Transit``, or ``None`` which is also what its absence means.

    Raises
    ------
    ValueError
        It is something else.
    """
    section = configuration.get("PacsArchive")
    mode = section.get("StorageEncryption", "None") if isinstance(section, Mapping) else "None"
    if mode not in MODES:
        raise ValueError(f"PacsArchive.StorageEncryption: {mode!r} is set, it may be {' or '.join(MODES)}")
    return str(mode)


def check_storage(configuration: Mapping[str, object]) -> None:
    """Refuse a storage area that is not the one of the archive's mode.

    That the plugin is listed is enough: it ends Orthanc unless it stores and has its keys.

    Raises
    ------
    ValueError
        Encryption is wanted and the plugin is not listed, or the other way round; or images are encrypted on this
        volume already and no encryption is wanted.
    """
    mode, plugins = mode_of(configuration), configuration.get("Plugins")
    listed = isinstance(plugins, list) and PLUGIN in plugins
    if mode == "Transit" and not listed:
        raise ValueError(f"PacsArchive.StorageEncryption is Transit, but Plugins does not list {PLUGIN}")
    if mode == "None" and listed:
        raise ValueError(f"Plugins lists {PLUGIN}, but PacsArchive.StorageEncryption is not Transit")
    if mode == "None" and (root := encrypted_root(Path(str(configuration.get("StorageDirectory") or ".")))):
        raise ValueError(
            f"{root} holds encrypted images, but PacsArchive.StorageEncryption is not Transit: "
            "new ones would lie in clear"
        )


def encrypted_root(storage: Path) -> Path | None:
    """Return the folder of encrypted images at or right below Orthanc's own storage folder."""
    try:
        candidates = [storage, *(path for path in storage.iterdir() if path.is_dir())]
    except FileNotFoundError:
        return None
    return next((path for path in candidates if any((path / MARK).glob("[0-9]*"))), None)
