"""A pool's report: one page that answers "is it worth it?", from numbers that stand on their own."""

from lrensemble.report.page.info import Report, report_info
from lrensemble.report.page.render import page, write_report

__all__ = ["Report", "page", "report_info", "write_report"]
