"""The pictures of a report, for its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hqdata.errors import HqdataError, UserError
from hqdata.overlap.blocks import Item
from hqdata.overlap.report import OverlapReport
from hqdata.overlap.views import read_evaluation
from hqdata.report.overlap_page import write_overlap_page
from hqdata.shards.dataset import Dataset
from hqdata.storage import FileReader


class ReportPictures:
    """Gives the pictures of the pairs of a report, while their files can be read."""

    def __init__(
        self, report: OverlapReport, dataset: Dataset, items: Sequence[Item], reader: FileReader
    ) -> None:
        keys = {pair.train for pair in report.pairs}
        keys |= {p.evaluation.name for p in report.pairs if p.evaluation.set == "within"}
        table = dataset.samples["key"].to_pylist()
        self._rows = {key: number for number, key in enumerate(table) if key in keys}
        self._files = {(item.set, item.name): item.file for item in items}
        self._dataset, self._reader = dataset, reader

    def train(self, key: str) -> bytes | None:
        """The stored image of a training picture."""
        row = self._rows.get(key)
        return None if row is None else self._dataset.read_member(self._dataset.row(row), "image")

    def evaluation(self, set_name: str, name: str) -> bytes | None:
        """The file of an evaluation picture, None where only its fingerprint is to be had."""
        file = self._files.get((set_name, name))
        try:
            return None if file is None else read_evaluation(file, self._reader)
        except HqdataError:
            return None  # the page says that the picture is not here


def write_page(
    report: OverlapReport,
    dataset: Dataset,
    items: Sequence[Item],
    out: Path,
    *,
    report_path: Path,
    build_command: str,
) -> None:
    """Writes the page of a report.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileReader() as reader:
            pictures = ReportPictures(report, dataset, items, reader)
            write_overlap_page(
                report, pictures, out, report_path=report_path, build_command=build_command
            )
    except OSError as error:
        raise UserError(f"cannot write the page: {error.strerror}", where=out) from error
