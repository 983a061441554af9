"""The self-contained HTML report."""

from clusterflow.evaluate.report.data import ReportData, report_data_from_json
from clusterflow.evaluate.report.render import render_report

__all__ = ["ReportData", "render_report", "report_data_from_json"]
