"""``gpuperf duet``: two commits, measured against each other in alternating windows."""
