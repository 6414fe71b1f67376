"""Tests of the measuring itself: figures that decide things have to be right."""
