"""What an operator runs: the command line, the local stack, and the settings of the servers beside us."""
