"""What all tests share: real pictures, where they are to be had."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(Path(__file__).resolve().parent))

# The client of the Hub reads these once, when it is imported. No test may see the token or the
# cache of whoever runs it.
_hub_home = tempfile.mkdtemp(prefix="hqdata-tests-hub-")
atexit.register(shutil.rmtree, _hub_home, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE_"))]:
    del os.environ[_name]
os.environ |= {
    "HF_HOME": _hub_home,
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
}

_DEFAULT_REAL_DATA = REPOSITORY.parent / "shared" / "real-data"


def _real_data() -> Path | None:
    path = Path(os.environ.get("HQDATA_REAL_DATA", _DEFAULT_REAL_DATA))
    return path.resolve() if path.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real photographs and masks; see CONTRIBUTING for what it holds."""
    path = _real_data()
    if path is None:
        pytest.skip("needs real pictures: set HQDATA_REAL_DATA to a folder that has them")
    return path


@pytest.fixture(scope="session")
def arranged(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real pictures laid out like the sources: `official` and `repack` -> data root."""
    import subprocess

    tool = real_data.parent / "tools" / "arrange_sources.py"
    if not tool.is_file():
        pytest.skip(f"needs the tool that lays real pictures out like the sources: {tool}")
    roots = {}
    for layout in ("official", "repack"):
        roots[layout] = tmp_path_factory.mktemp(f"arranged-{layout}")
        command = [sys.executable, str(tool), str(roots[layout]), "--pile", str(real_data)]
        subprocess.run([*command, "--layout", layout], check=True, capture_output=True)
    return roots
