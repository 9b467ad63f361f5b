"""pytest-benchmark's tests: their rounds become records, and are gated like every other test."""
