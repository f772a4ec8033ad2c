"""Where things are kept: one SQLite file behind the slices' store protocols."""
