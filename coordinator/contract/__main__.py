"""`python -m coordinator.contract [--write]`, in the root of the project: compare the contract, or write it."""

import argparse
import sys
from pathlib import Path

from coordinator.contract import artifacts


def main() -> int:
    """0 when the files are as the types have it, or were made so; 1 when they differ."""
    parser = argparse.ArgumentParser(prog="python -m coordinator.contract", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write what differs instead of only naming it")
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="of the project; default: here")
    asked = parser.parse_args()
    if asked.write:
        changed = artifacts.write(asked.root)
        print("\n".join(f"wrote {path}" for path in changed) or "nothing to change")
        return 0
    differing = artifacts.drift(asked.root)
    for path in differing:
        print(f"{path} differs from the message types; run make schemas", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
