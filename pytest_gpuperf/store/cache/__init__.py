"""What is computed from records, and kept beside them until it is needed again."""
