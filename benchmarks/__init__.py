"""How good the verdicts are, side by side with those of other ways to find wrong labels."""
