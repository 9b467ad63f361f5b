"""The tests of an invocation together: what they show each other, what they share, and what a change has inherited."""
