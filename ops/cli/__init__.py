"""The command line: options, output, the selected system, and the small commands."""
