"""`python -m scorer`, and the `routerd` command."""

import sys


def main() -> None:
    """Runs the command line, or says in one line what a plugin-only install lacks."""
    try:
        from scorer.cli import cli
    except ModuleNotFoundError as error:
        sys.exit(f"routerd: {error.name} is not installed; the daemon needs: pip install 'routerd[scorer]'")
    cli(prog_name="routerd")


if __name__ == "__main__":
    main()
