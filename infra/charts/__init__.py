"""Charts that the Kubernetes blueprint installs: pinned versions with their source, and their values."""

from infra.charts.rows import Chart, chart, charts

__all__ = ["Chart", "chart", "charts"]
