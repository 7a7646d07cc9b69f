"""What tests stand on: real servers, fresh databases, and the oracles that judge what is stored."""
