"""The flags of make_records: those that pack a source, and those of its subcommands."""
