"""Verdicts at the end of the invocation, when all of its tests are known."""
