"""What Pulumi runs."""

from __future__ import annotations

import pulumi

from stacks.deploy import deploy

pulumi.run(deploy)
