"""The command line: what commands take and print, which system they mean, and the small commands themselves."""
