"""PyInstaller's hook: what of ramet a bundle must hold besides what imports show."""
from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-untyped, import-not-found, unused-ignore]

# Connectors and the kernel's late parts are found by name.
hiddenimports = [name for name in collect_submodules("ramet") if not name.startswith(("ramet.cli", "ramet.__pyinstaller"))]
# What is sent is made of the kernel's source; and cloudpickle's goes to nodes of other Pythons.
module_collection_mode = {"ramet": "pyz+py", "cloudpickle": "pyz+py"}
