"""`sluice doctor`: all checks of a running system."""
