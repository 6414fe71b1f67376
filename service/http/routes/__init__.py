"""Routes, one file for each concern."""
