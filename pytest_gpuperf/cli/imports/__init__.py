"""``gpuperf import``: records made of the files of other load tools."""
