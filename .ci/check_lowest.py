"""Say whether this environment holds the lowest version of every dependency that hqdata allows."""

from __future__ import annotations

import re
from importlib.metadata import requires, version


def main() -> None:
    """Exit with a message if a dependency is newer than its bound, or has none."""
    for requirement in requires("hqdata") or []:
        if "extra ==" in requirement:
            continue
        name, _, low = requirement.partition(">=")
        found = version(name)
        if not low or not re.fullmatch(re.escape(low) + r"(\.0)*", found):
            raise SystemExit(f"{requirement} is not tried: {name} {found} is; mend .ci/lowest.txt")
        print(name, found)


if __name__ == "__main__":
    main()
