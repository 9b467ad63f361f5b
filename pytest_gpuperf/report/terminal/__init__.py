"""Text for a terminal: the section at the end of pytest, and progress lines."""
