"""One module for each subcommand of `faas`; none is imported before it runs."""
