"""Pure: facts as dated rows (machines, accelerators, prices, fees) and their loader."""

from infra.catalog.catalog import Catalog, Sale, load
from infra.catalog.rows import Accelerator, Fee, Machine, Price

__all__ = ["Accelerator", "Catalog", "Fee", "Machine", "Price", "Sale", "load"]
