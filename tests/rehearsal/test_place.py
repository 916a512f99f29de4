"""A rehearsal cannot reach a real account: neither by a plugin, nor by a credential, nor by an encrypted value."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli.errors import CliError
from cli.project import Project
from cli.rehearsal.child import Child
from cli.rehearsal.place import MARK, Place, prepared

for _package in ("pulumi_gcp", "pulumi_kubernetes"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

PROJECTS = Path(__file__).resolve().parents[1] / "simulators" / "projects"
NONCE = secrets.token_hex(8)  # a rehearsal ends every process that bears its nonce: no two workers may share one
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_PROFILE": "production",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.2/credentials",
    "GOOGLE_CREDENTIALS": "{}",
    "GOOGLE_OAUTH_ACCESS_TOKEN": "ya29.real",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/someone/key.json",
    "CLOUDSDK_CONFIG": "/home/someone/gcloud",
    "KUBECONFIG": "/home/someone/kubeconfig",
    "PULUMI_ACCESS_TOKEN": "pul-real",
    "PULUMI_BACKEND_URL": "s3://real-state",
    "PULUMI_CONFIG_PASSPHRASE": "real passphrase",
    "PULUMI_DEBUG_PROVIDERS": "gcp:1234",
    "VAULT_TOKEN": "real",
}


def project(folder: Path, name: str = "gcp") -> Project:
    shutil.copytree(PROJECTS / name, folder)
    return Project(folder=folder, config_folder=folder)


def test_no_credential_of_the_caller_reaches_a_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by name and not by value, and what a client library looks at by itself leads nowhere."""
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    with prepared(project(tmp_path / "p"), "dev", NONCE) as place:
        env = dict(place.env)
        assert not set(CREDENTIALS.values()) - {"{}"} & set(env.values())
        for key in ("HOME", "PULUMI_HOME"):
            assert Path(env[key]).is_relative_to(place.folder)
            assert list(Path(env[key]).iterdir()) == []
        assert env["PULUMI_BACKEND_URL"] == f"file://{place.folder}/backend"
        for key in ("KUBECONFIG", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "GOOGLE_APPLICATION_CREDENTIALS"):
            assert not Path(env[key]).exists()
        assert env["AWS_EC2_METADATA_DISABLED"] == "true"
        assert env["GCE_METADATA_HOST"].startswith("127.0.0.1")
    assert not place.folder.exists()


@pytest.mark.parametrize("client", ["boto3", "google.auth"])
def test_the_clouds_own_clients_find_nothing(client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With files where they look by default, in a home that the rehearsal does not have."""
    pytest.importorskip(client.partition(".")[0], reason=f"{client} is not installed")
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws/credentials").write_text("[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n")
    (home / ".config/gcloud").mkdir(parents=True)
    key = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    (home / ".config/gcloud/application_default_credentials.json").write_text(yaml.safe_dump(key).replace("'", '"'))
    monkeypatch.setenv("HOME", str(home))
    ask = {
        "boto3": "import boto3; print(boto3.Session().get_credentials())",
        "google.auth": "import google.auth\ntry: print(google.auth.default())\n"
        "except google.auth.exceptions.DefaultCredentialsError: print(None)",
    }[client]
    with prepared(project(tmp_path / "p"), "dev", NONCE) as place:
        inside = _python(ask, dict(place.env))
    assert inside == "None"
    if client == "boto3":
        assert _python(ask, dict(os.environ)) != "None", "the question finds credentials where there are some"


def _python(code: str, env: dict[str, str]) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_encrypted_values_stay_closed_and_other_stacks_stay_out(tmp_path: Path) -> None:
    """No passphrase and no key service is asked; the project's backend, packages and plugins are not taken over."""
    here = project(tmp_path / "p")
    whole = yaml.safe_load((here.folder / "Pulumi.yaml").read_text())
    whole |= {
        "backend": {"url": "s3://real"},
        "packages": {"other": "terraform-provider"},
        "options": {"refresh": "always"},
    }
    whole["plugins"] = {"providers": [{"name": "gcp", "path": "/usr/lib/real"}, {"name": "random", "path": "/usr/lib"}]}
    (here.folder / "Pulumi.yaml").write_text(yaml.safe_dump(whole))
    config = {
        "sample-gcp:password": {"secure": "v1:x:y"},
        "sample-gcp:machine": "e2-standard-8",
        "a:b": [{"secure": "q"}],
    }
    secret = {"secretsprovider": "awskms://alias/real", "encryptedkey": "abc", "config": config}
    here.config_file("dev").write_text(yaml.safe_dump(secret))
    here.config_file("production").write_text("config: {}\n")
    (here.folder / ".git").mkdir()
    with prepared(here, "dev", NONCE) as place:
        copied = yaml.safe_load(place.project.config_file("dev").read_text())
        assert copied == {
            "config": {"sample-gcp:password": "rehearsed", "sample-gcp:machine": "e2-standard-8", "a:b": ["rehearsed"]}
        }
        assert set(place.placeholders) == {"sample-gcp:password", "a:b"}
        assert place.project.stacks() == ["dev"]
        file = yaml.safe_load((place.project.folder / "Pulumi.yaml").read_text())
        assert not {"backend", "packages", "options"} & set(file)
        assert {p["name"] for p in file["plugins"]["providers"]} == {"gcp", "aws", "kubernetes"}
        assert all(Path(p["path"]).is_relative_to(place.folder) for p in file["plugins"]["providers"])
        assert not (place.project.folder / ".git").exists()
    assert yaml.safe_load(here.config_file("dev").read_text()) == secret


def _impostor(folder: Path, marker: Path, name: str = "pulumi-resource-gcp") -> Path:
    """A real plugin as far as anyone can see: it leaves a trace when it is started, and serves nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    script.write_text(f"#!/bin/sh\necho started >> {marker}\nexit 1\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def test_a_plugin_that_is_no_simulator_ends_the_rehearsal(tmp_path: Path) -> None:
    """No nonce, no rehearsal: on the embedded engine the same question is asked of what the project names."""
    with prepared(project(tmp_path / "p"), "dev", NONCE) as place:
        other = Place(
            folder=place.folder, project=place.project, probe=place.probe, world=place.world,
            env={**place.env, MARK: "another"}, placeholders=(),
        )  # fmt: skip
        with Child(other, "embedded") as child, pytest.raises(CliError, match="could not be proven"):
            child.prove(NONCE)


@pytest.mark.pulumi
@pytest.mark.slow
def test_pulumi_never_starts_a_real_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on PATH, one in the user's plugin cache, PULUMI_IGNORE_AMBIENT_PLUGINS set: neither is ever started."""
    binary = shutil.which("pulumi")
    if binary is None:
        pytest.skip("the Pulumi CLI is not on PATH")
    marker, path, home = tmp_path / "started", tmp_path / "bin", tmp_path / "pulumi-home"
    _impostor(path, marker)
    _impostor(home / "plugins" / "resource-gcp-v10.2.0", marker)
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PULUMI_HOME", str(home))
    monkeypatch.setenv("PULUMI_IGNORE_AMBIENT_PLUGINS", "true")
    here = project(tmp_path / "p")
    with prepared(here, "dev", NONCE) as place, Child(place, binary) as child:
        child.prove(NONCE)
        ended = child.run("up", "dev", {}, [], lambda event: None)
        assert ended.ok, ended.errors
    assert not marker.exists()
    # the control: the same plugins without a rehearsal
    env = {**os.environ, "PULUMI_BACKEND_URL": f"file://{tmp_path}", "PULUMI_CONFIG_PASSPHRASE": ""}
    env |= {"PULUMI_SKIP_UPDATE_CHECK": "true", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true"}
    env |= {"PULUMI_PYTHON_CMD": sys.executable}
    for arguments in (["stack", "init", "dev"], ["preview"]):
        command = [binary, *arguments, "--cwd", str(here.folder), "--non-interactive"]
        subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert marker.exists(), "outside a rehearsal Pulumi does start it"


@pytest.mark.pulumi
@pytest.mark.slow
def test_a_real_plugin_by_path_is_found_out(tmp_path: Path) -> None:
    """Were a plugin of the copy no simulator, the probe says so before the program runs."""
    binary = shutil.which("pulumi")
    if binary is None:
        pytest.skip("the Pulumi CLI is not on PATH")
    with prepared(project(tmp_path / "p"), "dev", NONCE) as place:
        _impostor(place.folder / "plugins" / "gcp", tmp_path / "started")
        with Child(place, binary) as child, pytest.raises(CliError, match="nothing was rehearsed"):
            child.prove(NONCE)
