"""`python -m labelclean` is the same as `labelclean`."""

from labelclean.cli import main

if __name__ == "__main__":
    main()
