"""Sessions in files: immutable, checked when read, compared only where their keys agree."""

from pytest_gpuperf.store.baseline import Baseline, select_baseline
from pytest_gpuperf.store.key import key_digest, slug
from pytest_gpuperf.store.store import Acceptance, Entry, Store

__all__ = ["Acceptance", "Baseline", "Entry", "Store", "key_digest", "select_baseline", "slug"]
