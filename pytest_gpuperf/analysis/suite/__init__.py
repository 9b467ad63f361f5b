"""The tests of an invocation and of a device model together: what they share, and what a change has inherited."""
