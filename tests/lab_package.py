"""The lab's package that README.md shows, as files: what is shown is what is tested."""

from __future__ import annotations

import re
from pathlib import Path

from processes import ROOT

BLOCK = re.compile(r"```(?:toml|python)\n# (mylab/\S+)\n(.*?)```", re.DOTALL)


def write_lab_package(folder: Path) -> Path:
    """Write the package below a folder; returns its own."""
    for name, content in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder / "mylab"
