"""What the terminal shows, as rich renderables: layout only, nothing is printed here."""
