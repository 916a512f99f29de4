"""Rules of who reaches what, and of what outlives the stack."""

from __future__ import annotations

import ipaddress

from infra.spec.model import Spec
from infra.spec.rules.cloud import SCHEMES
from infra.spec.rules.registry import GKE, PROVIDER, SLIPWAY, Found, no, problem, rule, to

EXAMPLE = "203.0.113.0/24"  # documentation addresses, RFC 5737


@rule("A public entry says who may come in.", "DESIGN: the entry")
def public_needs_addresses(spec: Spec) -> Found:
    if spec.exposure == "public" and not spec.allowed_cidrs and spec.cloud != "local":
        yield problem(
            ("allowed_cidrs",),
            "is required where exposure is public",
            to_fix=f"set allowed_cidrs to the addresses of the callers, such as [{EXAMPLE}]",
            fix=to("allowed_cidrs", value=[EXAMPLE]),
        )


@rule("A public entry is encrypted.", "DESIGN: the entry")
def public_needs_tls(spec: Spec) -> Found:
    if spec.exposure == "public" and spec.tls is None and spec.cloud != "local":
        sample = "serving-certificate" if spec.cloud != "aws" else ARN_SAMPLE
        yield problem(("tls",), "is required where exposure is public", fix=to("tls", value={"certificate": sample}))


ARN_SAMPLE = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"


@rule("AWS names a certificate by its ARN.", PROVIDER)
def certificate_is_of_the_cloud(spec: Spec) -> Found:
    if spec.tls and spec.cloud == "aws" and not spec.tls.certificate.startswith("arn:"):
        yield problem(
            ("tls", "certificate"),
            f"{spec.tls.certificate} is no ARN, and cloud is aws",
            allowed=("arn:aws:acm:<region>:<account>:certificate/<id>",),
            fix=to("tls", "certificate", value=ARN_SAMPLE),
        )


@rule("Caller addresses are for a public entry; a private one is reached from its network.", SLIPWAY)
def addresses_need_a_public_entry(spec: Spec) -> Found:
    if spec.exposure != "public" and spec.allowed_cidrs:
        yield problem(("allowed_cidrs",), f"means nothing where exposure is {spec.exposure}", fix=no("allowed_cidrs"))


@rule("The local entry binds 127.0.0.1 in the clear.", SLIPWAY)
def local_has_no_tls(spec: Spec) -> Found:
    if spec.tls is not None and spec.cloud == "local":
        yield problem(("tls",), "means nothing where cloud is local", fix=no("tls"))


@rule(
    "The commands reach a private cluster from an administrator's addresses; GKE has a DNS endpoint that asks IAM.",
    "DESIGN: the entry; cloud.google.com/kubernetes-engine/docs/concepts/network-isolation",
)
def cluster_needs_admins(spec: Spec) -> Found:
    if spec.shape == "kubernetes" and spec.cloud in SCHEMES and spec.cloud != "gcp" and not spec.admin_cidrs:
        yield problem(
            ("admin_cidrs",),
            f"is required where shape is kubernetes and cloud is {spec.cloud}",
            to_fix=f"set admin_cidrs to your own addresses, such as [{EXAMPLE}]",
            fix=to("admin_cidrs", value=[EXAMPLE]),
        )


@rule("Virtual machines have no control plane of the stack's; this machine has none either.", SLIPWAY)
def admins_need_a_cluster(spec: Spec) -> Found:
    if spec.shape != "kubernetes" and spec.admin_cidrs:
        yield problem(("admin_cidrs",), f"means nothing where shape is {spec.shape}", fix=no("admin_cidrs"))


@rule("Networks, entries and control planes of a stack have IPv4 addresses alone.", SLIPWAY)
def callers_have_ipv4(spec: Spec) -> Found:
    for name, cidrs in (("admin_cidrs", spec.admin_cidrs), ("allowed_cidrs", spec.allowed_cidrs)):
        for i, cidr in enumerate(cidrs):
            if spec.cloud in SCHEMES and ipaddress.ip_network(cidr).version == 6:
                yield problem(
                    (name, i), f"{cidr} is of IPv6, and nothing of the stack is", fix=to(name, i, value=EXAMPLE)
                )


@rule("A control plane open to everybody is one leaked token away from being theirs.", GKE)
def admins_are_not_everybody(spec: Spec) -> Found:
    for i, cidr in enumerate(spec.admin_cidrs):
        if ipaddress.ip_network(cidr).prefixlen < 8:
            yield problem(
                ("admin_cidrs", i),
                f"{cidr} is most of the internet",
                allowed=("blocks of /8 and smaller",),
                fix=to("admin_cidrs", i, value=EXAMPLE),
            )


@rule("Backups go to a bucket of the same cloud, without keys.", SLIPWAY)
def backup_is_of_the_cloud(spec: Spec) -> Found:
    own = SCHEMES.get(spec.cloud)
    if spec.backup_uri and own and not spec.backup_uri.startswith(own):
        yield problem(
            ("backup_uri",),
            f"{spec.backup_uri} is not a bucket of cloud {spec.cloud}",
            allowed=(own,),
            fix=to("backup_uri", value=own + spec.backup_uri.split("://")[1]),
        )


@rule("Backups are of stores.", SLIPWAY)
def backup_needs_a_store(spec: Spec) -> Found:
    if spec.backup_uri and (spec.feature_store == "none" or spec.cloud == "local"):
        what = "feature_store is none" if spec.feature_store == "none" else "cloud is local"
        yield problem(("backup_uri",), f"means nothing where {what}", fix=no("backup_uri"))


@rule("A batch reads and writes buckets of its own cloud.", SLIPWAY)
def batch_is_of_the_cloud(spec: Spec) -> Found:
    own = SCHEMES.get(spec.cloud)
    for name in ("input_uri", "output_uri"):
        uri = getattr(spec.batch, name) if spec.batch else None
        if uri and own and not uri.startswith(own):
            yield problem(
                ("batch", name),
                f"{uri} is not a bucket of cloud {spec.cloud}",
                allowed=(own,),
                fix=to("batch", name, value=own + uri.split("://")[1]),
            )
