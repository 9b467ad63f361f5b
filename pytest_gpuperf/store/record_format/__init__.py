"""The contents of files of a store: a checksum over canonical JSON, and bounds of its numbers."""
