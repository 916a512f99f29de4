"""The key that encrypts the cluster's secrets, and who may use it."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import kms, organizations

from infra.clouds.gcp.facts import text
from infra.clouds.gcp.here import Here
from infra.clouds.naming import label


@dataclass(frozen=True, kw_only=True)
class Key:
    id: pulumi.Output[str]
    usable: pulumi.Resource  # before it the cluster may not use the key


def key(here: Here) -> Key:
    """Ring and key have names that the provider makes, new each time: Google never deletes either, and a second `up`
    after a destroy would meet the first one's. Neither costs anything; a destroyed version does not either."""
    logical = label(here.stack)  # a ring has no labels: its name says whose it is
    ring = kms.KeyRing(f"{logical}-keys", location=here.spec.region, opts=here.on(named=False))
    made = kms.CryptoKey(
        f"{logical}-secrets",
        key_ring=ring.id,
        purpose="ENCRYPT_DECRYPT",
        rotation_period=text("key_rotation"),
        destroy_scheduled_duration=text("key_destroy_after"),
        labels=here.labels("secrets"),
        opts=here.on(named=False),
    )
    number = organizations.get_project_output(
        project_id=here.project, opts=pulumi.InvokeOutputOptions(provider=here.provider)
    ).number
    usable = kms.CryptoKeyIAMMember(
        "secrets-gke",
        crypto_key_id=made.id,
        role="roles/cloudkms.cryptoKeyEncrypterDecrypter",
        member=pulumi.Output.concat(
            "serviceAccount:service-", number, "@container-engine-robot.iam.gserviceaccount.com"
        ),
        opts=here.on(),
    )
    return Key(id=made.id, usable=usable)
