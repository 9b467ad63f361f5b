"""Duets in pytest: the sides of `gpuperf duet`, the looks at a duet, and the comparison of its sides."""
