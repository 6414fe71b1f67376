"""The servers under measurement, one file each."""
