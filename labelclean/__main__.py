"""Where the command begins; `python -m labelclean` is the same as `labelclean`."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is still being loaded ends it as any later one does."""
    try:
        from labelclean.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
