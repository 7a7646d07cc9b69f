"""What every service stands on: the event contract, settings, lifecycle and the two servers' clients."""
