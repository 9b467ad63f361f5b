"""From what was stored and decided to files that people read: the same for pytest and for the command line."""
