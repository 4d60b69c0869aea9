"""`python -m sweeps`, and what the console script runs."""

from __future__ import annotations

import sys

from sweeps import interrupts


def main() -> None:
    """Run the command; a Ctrl-C while it is still being imported is one line, too."""
    interrupts.install()
    try:
        from sweeps.cli import main as command
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(interrupts.exit_code()) from None
    try:
        command()
    finally:
        interrupts.finish()


if __name__ == "__main__":
    main()
