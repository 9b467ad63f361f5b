"""``gpuperf comment``: a report as a comment on a pull request, updated in place."""
