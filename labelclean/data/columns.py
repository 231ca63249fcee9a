"""The names by which the columns of an index, of golden labels and of a truth are found, whatever their case."""

from __future__ import annotations

PATH_NAMES = ("path", "file_name", "filename", "file", "image", "image_path", "filepath", "file_path", "img")
LABEL_NAMES = ("label", "class", "target", "category", "class_name", "label_name", "y")
TRUTH_NAMES = ("true_label", "truth")
GOLDEN_NAME, CHANCE_NAME, GROUP_NAME = "golden", "chance", "group"
WRITTEN_NAMES = (CHANCE_NAME, "suggested_label", "verdict", "p_clean")
"""Columns of files that labelclean writes, whose column `label` holds the given labels."""
