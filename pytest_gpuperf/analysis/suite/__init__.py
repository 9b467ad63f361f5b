"""The tests of an invocation together: what they share, and what a change has inherited."""
