"""A tree whose .tar.gz files can be read, as a build makes them readable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hqdata.archives import spool_archive
from hqdata.scan import scan
from hqdata.storage import Tree


def scan_spooled(root: Path, spool: Path) -> Tree:
    """Lists everything below `root` and decompresses each .tar.gz into `spool`."""
    tree = scan(root)
    targets: dict[str, str] = {}
    for folder in tree.folders:
        for name, ref in folder.files.items():
            if ref.how == "listed":
                if ref.container not in targets:
                    targets[ref.container] = str(spool_archive(Path(ref.container), spool))
                folder.files[name] = replace(ref, how="range", container=targets[ref.container])
    return tree
