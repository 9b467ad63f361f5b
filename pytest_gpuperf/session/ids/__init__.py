"""Ids of tests in records, and pytest's root directory, which they depend on."""
