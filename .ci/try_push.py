"""Push a data set to the tests' own Hub and pull it again, with the programs of an environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.hub import fake_hub  # after the path above

TOKEN = "hf_TokenOfThePersonWhoPushes00000001"


def main(program: str, shards: str) -> None:
    """Exit with a message unless both ways of uploading give the same digest back."""
    with tempfile.TemporaryDirectory() as name, fake_hub(Path(name, "hub")) as hub:
        hub.add_user("me", TOKEN)
        for xet in ("0", "1"):
            environment = hub.environment(TOKEN, HF_HUB_DISABLE_XET=xet)
            said = []
            for words in (
                ["push", shards, "--repo", f"me/x{xet}", "--without-certificate"],
                ["pull", f"me/x{xet}", "--out", f"{name}/{xet}"],
            ):
                done = subprocess.run(
                    [program, *words], env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    sys.exit(f"{words[0]}: {done.stdout}{done.stderr}")
                said.append(done.stdout.strip().splitlines()[-1])
            if said[0] != said[1]:
                sys.exit(f"pushed {said[0]}, pulled {said[1]}")
            print(f"pushed and pulled, Xet {'off' if xet == '1' else 'on'}: {said[1]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
