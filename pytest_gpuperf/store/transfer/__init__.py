"""Export and import: records from one store to another, through a folder, a bucket or a tar.

What is exported is itself a store, with the same files, byte by byte: records, the notes about them, and the
calibrations of their devices. An import checks every file before it writes the first, and takes records alone unless
notes are asked for: whoever wrote the source could have written them in anybody's name.
"""

from pytest_gpuperf.store.transfer.exporting import ExportResult, export_records
from pytest_gpuperf.store.transfer.importing import ALL_NOTES, NOTE_KINDS, ImportResult, import_records

__all__ = ["ALL_NOTES", "NOTE_KINDS", "ExportResult", "ImportResult", "export_records", "import_records"]
