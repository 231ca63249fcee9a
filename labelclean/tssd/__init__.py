"""The method: pure functions on arrays that know no files, no configuration and no networks."""
