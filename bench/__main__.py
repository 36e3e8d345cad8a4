"""The program `bench`."""

import sys


def main() -> None:
    """The command that was typed; 130 where Ctrl-C comes while it is still being loaded."""
    try:
        from bench.cli import main as run_command
    except KeyboardInterrupt:
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    main()
