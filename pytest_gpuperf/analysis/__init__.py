"""Pure decisions over the data model: what a window says, and whether two records differ."""
