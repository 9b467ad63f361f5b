"""The decision about a duet: blocks become differences, and differences become rows with verdicts."""
