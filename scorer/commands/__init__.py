"""The subcommands of `routerd` that work on files. With scorer.cli, the only modules that print."""
