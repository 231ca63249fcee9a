"""Networks and the round loop."""
