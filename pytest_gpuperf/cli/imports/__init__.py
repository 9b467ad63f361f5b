"""``gpuperf import``: records from the files of other load tools."""
