"""Published data sets, as their authors lay them out, turned into an index that the other commands read."""
