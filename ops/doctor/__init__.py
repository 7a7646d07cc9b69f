"""`python -m ops doctor`: every check of a running system."""
