"""The lakehouse: Iceberg tables, read and replaced by windows of time.

PyIceberg does the work; here stand the windows, the retries and the upkeep. A table is named
`group.name` and has one time column. What is in a table is the group's business.
"""

from ml_assets.resources.lakehouse.resource import Lakehouse, Period
from ml_assets.resources.lakehouse.results import Upkeep, WriteResult

__all__ = ["Lakehouse", "Period", "Upkeep", "WriteResult"]
