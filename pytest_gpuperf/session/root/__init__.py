"""pytest's root directory, and the ids that tests have relative to the checkout around it."""
