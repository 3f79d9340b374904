"""A pool's report: one page that answers "is it worth it?", from numbers that stand on their own."""

from lrensemble.report.page.index import pool_rows
from lrensemble.report.page.info import Report, report_info
from lrensemble.report.page.render import index_page, page, write_page, write_report

__all__ = ["Report", "index_page", "page", "pool_rows", "report_info", "write_page", "write_report"]
