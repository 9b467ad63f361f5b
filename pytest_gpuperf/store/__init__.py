"""Stores: records in immutable files, which are checked when read and compared only under equal keys."""

from pytest_gpuperf.store.ancestors import MergeBaseRecords, merge_base_records
from pytest_gpuperf.store.baseline import Baseline, BaselineSpec, duet_history, select_baseline
from pytest_gpuperf.store.calibration import Calibration, is_better_founded, newest_calibration, write_calibration
from pytest_gpuperf.store.git_branch import DEFAULT_BRANCH, Synced, pull, push
from pytest_gpuperf.store.key import key_digest, slug
from pytest_gpuperf.store.layout import RecordFile
from pytest_gpuperf.store.moving import move
from pytest_gpuperf.store.notes import Pruning
from pytest_gpuperf.store.project.checkout import Checkout, read_checkout
from pytest_gpuperf.store.project.merge_base import MergeBase, commits_before, read_merge_base
from pytest_gpuperf.store.prune import prunable
from pytest_gpuperf.store.store import Store
from pytest_gpuperf.store.transfer import (
    ALL_NOTES,
    NOTE_KINDS,
    ExportResult,
    ImportResult,
    export_records,
    import_records,
)

__all__ = [
    "ALL_NOTES",
    "DEFAULT_BRANCH",
    "NOTE_KINDS",
    "Baseline",
    "BaselineSpec",
    "Calibration",
    "Checkout",
    "ExportResult",
    "ImportResult",
    "MergeBase",
    "MergeBaseRecords",
    "Pruning",
    "RecordFile",
    "Store",
    "Synced",
    "commits_before",
    "duet_history",
    "export_records",
    "import_records",
    "is_better_founded",
    "key_digest",
    "merge_base_records",
    "move",
    "newest_calibration",
    "prunable",
    "pull",
    "push",
    "read_checkout",
    "read_merge_base",
    "select_baseline",
    "slug",
    "write_calibration",
]
