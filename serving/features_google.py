"""What Google's clients raise, as what the look-up knows; also copied beside the Python model inside the server."""

from __future__ import annotations

from google.api_core import exceptions

from serving.features_types import FeatureStoreError, GoneError, SlowError, ThrottledError


def known(error: exceptions.GoogleAPICallError) -> FeatureStoreError:
    if isinstance(error, exceptions.DeadlineExceeded):
        return SlowError("the feature store did not answer in time")
    if isinstance(error, exceptions.ServiceUnavailable):
        return GoneError(f"the feature store cannot be reached: {error.message}")
    if isinstance(error, exceptions.ResourceExhausted | exceptions.Aborted):
        return ThrottledError(f"the feature store was asked too much: {error.message}")
    return FeatureStoreError(f"the feature store refused: {error.message}")
