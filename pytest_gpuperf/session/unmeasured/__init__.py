"""Tests without figures: they failed before, crashed, were not collected, or did not run."""
