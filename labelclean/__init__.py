"""labelclean: finds the wrong labels in an image data set."""

__version__ = "0.1.0"
